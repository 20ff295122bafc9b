"""INT8 within a maximum drop in AP, with as few blocks in float as possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.drop import DropMeter
from quantize import CalibrationSet, QuantizeConfig, open_quantizer, sensitivity
from runtimes import golden, read_card
from runtimes.progress import Progress, silent


def quantize_within(
    model: Path,
    output: Path,
    calibration: CalibrationSet,
    config: QuantizeConfig,
    *,
    max_drop: float,
    data: CocoData,
    limit: int | None = None,
    progress: Progress = silent,
) -> Iterator[str]:
    """Quantize within a maximum drop; the search runs while its lines of text are read.

    Args:
        model, output, calibration, config: As of `quantize.quantize`.
        max_drop: Maximum drop in box and mask AP of INT8, in [0, 1].
        data: Data to measure the drop on; never the calibration images.
        limit: Maximum number of images of `data`.
        progress: Called after each step.

    Yields:
        Lines of text: the effect of INT8 and the cost of float for each block, and the drop of each trial.
    """
    key = {
        "model": read_card(model).to_json(), "calibration": calibration.manifest_sha256, "images": config.images,
        "keep_float": config.keep_float, "weight_bits": config.weight_bits, "data": str(data.path),
        "limit": limit,
    }  # fmt: skip
    journal = sensitivity.Journal(output.with_name(f"{output.name}.search.json"), key)
    quantizer = open_quantizer(model, calibration, config)
    probes = list(calibration.tensors_with_objects(model, sensitivity.PROBES, config.seed))
    ranking = sensitivity.rank_blocks(quantizer, model, probes, journal, progress)
    meter = DropMeter(model, data, limit, progress)
    trials = sensitivity.keep_within(quantizer, ranking, output, max_drop, meter.measure, journal, progress)
    golden.renew(model, output)
    journal.close()
    yield from block_table(ranking, trials[-1].kept)
    yield from trial_table(ranking, trials)


def block_table(ranking: Sequence[Any], kept: Sequence[str]) -> Iterator[str]:
    """The effect of INT8 in each block alone, and the time that float costs there."""
    width = max(len(one.block) for one in ranking)
    yield f"{'block':<{width}}  {'changes':>8}  {'costs ms':>8}"
    for one in ranking:
        mark = "  float" if one.block in kept else ""
        yield f"{one.block:<{width}}  {100 * one.error:>6.2f} %  {one.cost_ms:>8.2f}{mark}"


def trial_table(ranking: Sequence[Any], trials: Sequence[Any]) -> Iterator[str]:
    """The drop with each number of blocks in float, their time, and the chosen trial."""
    costs = {one.block: one.cost_ms for one in ranking}
    yield ""
    yield f"{'blocks in float':>15}  {'cost ms':>8}  {'drop of AP':>10}"
    for trial in sorted(trials, key=lambda trial: len(trial.kept)):
        cost = sum(costs[block] for block in trial.kept)
        mark = "  taken" if trial is trials[-1] else ""
        yield f"{len(trial.kept):>15}  {cost:>8.2f}  {trial.drop:>10.4f}{mark}"

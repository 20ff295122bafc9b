"""What `quantize` and `export --int8` share: their options, and the search for what stays in float."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_mrcnn.cli.options import load_split, make_progress
from edge_mrcnn.data.loading import is_data_set

if TYPE_CHECKING:
    from quantize.calibration import CalibrationSet

_OPTIONS = (
    click.option("--calib-images", type=int, default=128, show_default=True, help="Calibration images at most."),
    click.option(
        "--keep-float", default="", help="What else stays float: backbone,fpn,rpn,box_head,mask_head or blocks of them."
    ),
    click.option(
        "--reduce-range", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
        help="INT8 weights in 7 bits, for x86 without VNNI [auto: if this processor is one].",
    ),
    click.option("--max-drop", type=click.FloatRange(0, 1), help="AP that INT8 may lose, such as 0.003; needs --data."),
    click.option("--data", help="COCO data that the drop is measured on, never the calibration's."),
    click.option("--limit", type=click.IntRange(1), help="Images of it at most."),
)  # fmt: skip


def int8_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of INT8, in the order in which they are listed here."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def load_calibration(path: str) -> CalibrationSet:
    """The set of --calib; of a data set in a layout of a labelling tool, the pictures to train on."""
    from quantize.calibration import MANIFEST_NAME, CalibrationSet

    folder = Path(path)
    own_lists = (folder / MANIFEST_NAME, folder / "annotations" / "instances_train.json")
    is_listed = any(file.is_file() for file in own_lists)
    if is_listed or not folder.is_dir() or not is_data_set(folder):
        return CalibrationSet.load(path)
    data = load_split(path, "train")
    return CalibrationSet.of_files(folder, [image.path for image in data.images])


def search(
    model: Path, output: Path, calibration: Any, config: Any, *, max_drop: float, data: str, limit: int | None
) -> Iterator[str]:
    """Quantize within a budget; what was found, as lines of text."""
    from edge_mrcnn.evaluation.drop import DropMeter
    from quantize import open_quantizer, sensitivity
    from runtimes import golden, read_card

    validation = load_split(data, "val")
    key = {
        "model": read_card(model).to_json(), "calibration": calibration.manifest_sha256, "images": config.images,
        "keep_float": config.keep_float, "weight_bits": config.weight_bits, "data": str(validation.path),
        "limit": limit,
    }  # fmt: skip
    journal = sensitivity.Journal(output.with_name(f"{output.name}.search.json"), key)
    progress = make_progress()
    quantizer = open_quantizer(model, calibration, config)
    probes = list(calibration.tensors_with_objects(model, sensitivity.PROBES, config.seed))
    ranking = sensitivity.rank_blocks(quantizer, model, probes, journal, progress)
    meter = DropMeter(model, validation, limit, progress)
    trials = sensitivity.keep_within(quantizer, ranking, output, max_drop, meter.measure, journal, progress)
    golden.renew(model, output)
    journal.close()
    yield from block_table(ranking, trials[-1].kept)
    yield from trial_table(ranking, trials)


def block_table(ranking: Sequence[Any], kept: Sequence[str]) -> Iterator[str]:
    """What INT8 in each block alone changes, and the time that float there costs."""
    width = max(len(one.block) for one in ranking)
    yield f"{'block':<{width}}  {'changes':>8}  {'costs ms':>8}"
    for one in ranking:
        mark = "  float" if one.block in kept else ""
        yield f"{one.block:<{width}}  {100 * one.error:>6.2f} %  {one.cost_ms:>8.2f}{mark}"


def trial_table(ranking: Sequence[Any], trials: Sequence[Any]) -> Iterator[str]:
    """The drop with each number of blocks in float, the time that they cost, and which trial was taken."""
    costs = {one.block: one.cost_ms for one in ranking}
    yield ""
    yield f"{'blocks in float':>15}  {'cost ms':>8}  {'drop of AP':>10}"
    for trial in sorted(trials, key=lambda trial: len(trial.kept)):
        cost = sum(costs[block] for block in trial.kept)
        mark = "  taken" if trial is trials[-1] else ""
        yield f"{len(trial.kept):>15}  {cost:>8.2f}  {trial.drop:>10.4f}{mark}"

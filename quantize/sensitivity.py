"""Sensitivity of each block to INT8, and the fewest blocks in float that keep the drop within a budget.

The error of a block is the change of the outputs if only this block is in INT8; its cost is the extra time of the INT8
file if only this block is in float. Blocks are ranked by error per millisecond: the first ones are the most efficient
to keep in float. Then the shortest prefix of that list is searched that brings the measured drop in AP within the
budget.

Every finished step is saved in a journal, so that an interrupted search continues.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtimes
from quantize.base import Quantizer
from runtimes.base import RawOutputs, Runtime
from runtimes.errors import GateError
from runtimes.model_file import ModelFile
from runtimes.parity import box_iou, live_rows, match
from runtimes.progress import Progress

Tensor = NDArray[np.uint8]

PROBES = 16
"""Number of calibration tensors for comparing blocks."""
ROUNDS = 3
"""Number of timed passes over the probes."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Error of one block in INT8, and its cost in float."""

    block: str
    """Its name."""
    error: float
    """Share of the float model's outputs that changes if only this block is INT8; see `output_error`."""
    cost_ms: float
    """Extra milliseconds of the INT8 file if only this block is in float; about zero if that costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An INT8 file with its measured drop."""

    kept: tuple[str, ...]
    """Blocks in float."""
    drop: float
    """Drop in AP against the float model, the larger of boxes and masks."""


class Journal:
    """Results of a search so far, in a JSON file."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        """Open one.

        Args:
            path: The file; that of another search is replaced.
            key: Everything that the results depend on.
        """
        self._path = path
        self._record: dict[str, Any] = {"key": json.loads(json.dumps(key)), "blocks": {}, "drops": {}}
        if path.is_file():
            earlier = json.loads(path.read_text())
            if earlier["key"] == self._record["key"]:
                self._record = earlier

    def block(self, name: str, measure: Callable[[], Sensitivity]) -> Sensitivity:
        """The sensitivity of a block, measured if it is not known."""
        blocks = self._record["blocks"]
        if name not in blocks:
            blocks[name] = asdict(measure())
            self._save()
        return Sensitivity(**blocks[name])

    def drop(self, kept: Sequence[str], measure: Callable[[], float]) -> float:
        """The drop with these blocks in float, measured if it is not known."""
        drops, name = self._record["drops"], " ".join(kept)
        if name not in drops:
            drops[name] = measure()
            self._save()
        return float(drops[name])

    def close(self) -> None:
        """Remove the file, after its result is used."""
        self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        partial = self._path.with_name(f"{self._path.name}.part")
        partial.write_text(json.dumps(self._record, indent=1))
        partial.replace(self._path)


def rank_blocks(
    quantizer: Quantizer, model: str | Path | ModelFile, tensors: Sequence[Tensor], journal: Journal, progress: Progress
) -> list[Sensitivity]:
    """Measure every block that is not already kept in float.

    Args:
        quantizer: Quantizer of the model.
        model: The FP32 model file.
        tensors: (1, H, W, 3) uint8 inputs for the comparison, which show objects.
        journal: Journal of results.
        progress: Called after each block.

    Returns:
        The blocks, the most efficient to keep in float first.
    """
    found = []
    blocks = [block for block in quantizer.blocks if block not in quantizer.asked_float]
    with tempfile.TemporaryDirectory() as folder, runtimes.load(model, threads=1) as exact:
        drafts = Drafts(quantizer, Path(folder), ModelFile(model).format.suffix)
        with drafts.open("all", quantizer.asked_float) as rounded:
            for done, block in enumerate(blocks, start=1):
                measure = partial(_measure, drafts, block, exact, rounded, tensors)
                found.append(journal.block(block, measure))
                progress("blocks", done, len(blocks))
    return sorted(found, key=_worth_keeping, reverse=True)


def _worth_keeping(one: Sensitivity) -> float:
    """Error that float avoids per millisecond of its cost."""
    return one.error / max(one.cost_ms, _LEAST_COST_MS)


_LEAST_COST_MS = 0.05
"""Minimum cost in milliseconds, about a clock's noise, so that blocks without a cost are ranked by their error."""


@dataclass(frozen=True)
class Drafts:
    """INT8 files that are only used for comparison."""

    quantizer: Quantizer
    folder: Path
    suffix: str

    def open(self, name: str, keep_float: Collection[str]) -> Runtime:
        """Write one and open it."""
        path = self.folder / f"{name}{self.suffix}"
        self.quantizer.write(path, keep_float, is_draft=True)
        return runtimes.load(path, threads=1)


def _measure(drafts: Drafts, block: str, exact: Runtime, rounded: Runtime, tensors: Sequence[Tensor]) -> Sensitivity:
    quantizer = drafts.quantizer
    others = [other for other in quantizer.blocks if other != block]
    errors = []
    with drafts.open("one", others) as one:
        for tensor in tensors:
            errors.append(output_error(live_rows(exact.run(tensor)), live_rows(one.run(tensor))))
    with drafts.open("rest", {*quantizer.asked_float, block}) as rest:
        kept_ms, all_ms = best_times_ms([rest, rounded], tensors)
    return Sensitivity(block=block, error=float(np.mean(errors)), cost_ms=kept_ms - all_ms)


def best_times_ms(models: Sequence[Runtime], tensors: Sequence[Tensor]) -> list[float]:
    """The mean time of a run of each model; for every tensor the best of `ROUNDS` interleaved runs."""
    best_ms = np.full((len(models), len(tensors)), np.inf)
    for _ in range(ROUNDS):
        for column, tensor in enumerate(tensors):
            for row, model in enumerate(models):
                start = time.perf_counter()
                model.run(tensor)
                took_ms = 1e3 * (time.perf_counter() - start)
                best_ms[row, column] = min(best_ms[row, column], took_ms)
    return [float(value) for value in best_ms.mean(axis=1)]


def output_error(exact: RawOutputs, rounded: RawOutputs) -> float:
    """Share of the outputs that changes, from 0 for none to about 1 for all.

    A pair of matched objects changes by the difference of their scores, and by their score times the sum of 1 - IoU of
    the boxes and the mean difference of the mask probabilities. An object without a match changes by its score. The sum
    is relative to the scores of the exact outputs.
    """
    changed = 0.0
    alone_in_exact = np.ones(len(exact.scores), dtype=bool)
    alone_in_rounded = np.ones(len(rounded.scores), dtype=bool)
    for row, column in match(exact, rounded):
        changed += _pair_error(exact, rounded, row, column)
        alone_in_exact[row] = False
        alone_in_rounded[column] = False
    changed += float(exact.scores[alone_in_exact].sum(dtype=np.float64))
    changed += float(rounded.scores[alone_in_rounded].sum(dtype=np.float64))
    return changed / max(float(exact.scores.sum()), 1e-6)


def _pair_error(exact: RawOutputs, rounded: RawOutputs, row: int, column: int) -> float:
    score = float(exact.scores[row])
    score_change = abs(score - float(rounded.scores[column]))
    ious = box_iou(exact.boxes[row : row + 1], rounded.boxes[column : column + 1])
    box_change = 1 - float(ious[0, 0])
    mask_change = float(np.abs(exact.masks[row] - rounded.masks[column]).mean())
    return score_change + score * (box_change + mask_change)


def keep_within(
    quantizer: Quantizer,
    ranking: Sequence[Sensitivity],
    output: Path,
    max_drop: float,
    measure_drop: Callable[[Path], float],
    journal: Journal,
    progress: Progress,
) -> list[Trial]:
    """Write the INT8 file with the fewest blocks in float whose drop is within the maximum.

    The drop is assumed to decrease with each block in float, so the number is found by bisection.

    Args:
        quantizer: Quantizer of the model.
        ranking: Its blocks from `rank_blocks`.
        output: File to write.
        max_drop: Maximum drop in AP, from 0 to 1.
        measure_drop: Function from an INT8 file to its drop in AP.
        journal: Journal of results.
        progress: Called after each trial.

    Returns:
        The trials in order; the last one is the file in `output`.

    Raises:
        GateError: If the drop is larger even with all blocks in float; the file is kept.
    """
    names = [one.block for one in ranking]
    trials: list[Trial] = []

    def fits(count: int) -> bool:
        kept = tuple(names[:count])

        def measure() -> float:
            quantizer.save(output, kept)
            return measure_drop(output)

        trials.append(Trial(kept=kept, drop=journal.drop(kept, measure)))
        progress("trials", len(trials), len(names).bit_length() + 1)
        return trials[-1].drop <= max_drop

    count = fewest(len(names), fits)
    best = next(trial for trial in trials if len(trial.kept) == count)
    quantizer.save(output, best.kept)
    if best.drop > max_drop:
        raise GateError(
            f"{output}: its AP drops by {best.drop:.4f} even with every block in float; expected at most {max_drop:g}"
        )
    others = [trial for trial in trials if trial != best]
    return [*others, best]


def fewest(total: int, fits: Callable[[int], bool]) -> int:
    """The smallest count from 0 to `total` that fits, assuming that larger counts fit as well; `total` if none does."""
    if fits(0):
        return 0
    too_few, enough = 0, total
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if fits(middle):
            enough = middle
        else:
            too_few = middle
    if enough == total:
        fits(total)
    return enough

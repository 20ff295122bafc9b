"""Which blocks lose the accuracy that INT8 costs, and how few of them must stay in float to keep within a budget.

What INT8 in one block alone changes in the answers is the block's error; the time that a run of the INT8 file takes
longer when this block alone is float is what it costs. The blocks are ranked by error for each millisecond: the first
ones are the cheapest to keep in float. Then the shortest beginning of that list is searched that brings the measured
drop of AP within the budget. Every finished step goes into a journal, so that an interrupted search goes on where it
stopped.
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
"""Calibration tensors that blocks are compared on."""
ROUNDS = 3
"""Timed passes over the probes."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """What one block loses in INT8, and what it costs to keep it in float."""

    block: str
    """Its name."""
    error: float
    """Share of the float model's answers that changes when it alone is INT8; see `answer_error`."""
    cost_ms: float
    """Milliseconds that a run of the INT8 file takes longer when it alone is float; about zero where that is free."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An INT8 file whose drop was measured."""

    kept: tuple[str, ...]
    """Blocks in float."""
    drop: float
    """AP that it loses to the float model, the larger of boxes and masks."""


class Journal:
    """What a search has found so far, in a JSON file."""

    def __init__(self, path: Path, key: dict[str, Any]) -> None:
        """Open one.

        Args:
            path: The file; one of another search is begun anew.
            key: What the findings depend on.
        """
        self._path = path
        self._record: dict[str, Any] = {"key": json.loads(json.dumps(key)), "blocks": {}, "drops": {}}
        if path.is_file():
            earlier = json.loads(path.read_text())
            if earlier["key"] == self._record["key"]:
                self._record = earlier

    def block(self, name: str, measure: Callable[[], Sensitivity]) -> Sensitivity:
        """The sensitivity of a block, measured unless it is known."""
        blocks = self._record["blocks"]
        if name not in blocks:
            blocks[name] = asdict(measure())
            self._save()
        return Sensitivity(**blocks[name])

    def drop(self, kept: Sequence[str], measure: Callable[[], float]) -> float:
        """The drop with these blocks in float, measured unless it is known."""
        drops, name = self._record["drops"], " ".join(kept)
        if name not in drops:
            drops[name] = measure()
            self._save()
        return float(drops[name])

    def close(self) -> None:
        """Remove the file, once its result is used."""
        self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        partial = self._path.with_name(f"{self._path.name}.part")
        partial.write_text(json.dumps(self._record, indent=1))
        partial.replace(self._path)


def rank_blocks(
    quantizer: Quantizer, model: str | Path | ModelFile, tensors: Sequence[Tensor], journal: Journal, progress: Progress
) -> list[Sensitivity]:
    """Measure every block that is not kept in float anyway.

    Args:
        quantizer: The model's.
        model: The FP32 artefact.
        tensors: (1, H, W, 3) uint8 inputs to compare on, with objects in them.
        journal: Where findings are kept.
        progress: Told after each block.

    Returns:
        The blocks, the one that is cheapest to keep in float first.
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
    """Error that float saves for each millisecond that it costs."""
    return one.error / max(one.cost_ms, _LEAST_COST_MS)


_LEAST_COST_MS = 0.05
"""What is below a clock's noise counts as this, so that blocks that are free in float are ranked by their error."""


@dataclass(frozen=True)
class Drafts:
    """INT8 files for comparison only."""

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
            errors.append(answer_error(live_rows(exact.run(tensor)), live_rows(one.run(tensor))))
    with drafts.open("rest", {*quantizer.asked_float, block}) as rest:
        kept_ms, all_ms = best_times_ms([rest, rounded], tensors)
    return Sensitivity(block=block, error=float(np.mean(errors)), cost_ms=kept_ms - all_ms)


def best_times_ms(models: Sequence[Runtime], tensors: Sequence[Tensor]) -> list[float]:
    """The mean time of a run of each model, of every tensor the best of `ROUNDS` interleaved runs."""
    best_ms = np.full((len(models), len(tensors)), np.inf)
    for _ in range(ROUNDS):
        for column, tensor in enumerate(tensors):
            for row, model in enumerate(models):
                start = time.perf_counter()
                model.run(tensor)
                took_ms = 1e3 * (time.perf_counter() - start)
                best_ms[row, column] = min(best_ms[row, column], took_ms)
    return [float(value) for value in best_ms.mean(axis=1)]


def answer_error(exact: RawOutputs, rounded: RawOutputs) -> float:
    """How much of an answer changes, from 0 for nothing to about 1 for all of it.

    A pair of matched objects changes by the difference of their scores, and by their score times the sum of 1 - IoU of
    the boxes and the mean difference of the mask probabilities. An object that only one of the two finds changes by its
    score. The sum is relative to the scores of the exact answer.
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
    """Write the INT8 file that keeps the fewest blocks in float and still loses at most so much.

    The drop is taken to fall with each block that is kept, so the number is found by halving.

    Args:
        quantizer: The model's.
        ranking: Its blocks from `rank_blocks`.
        output: File to write.
        max_drop: AP that may be lost, from 0 to 1.
        measure_drop: From an INT8 file to the AP that it loses.
        journal: Where findings are kept.
        progress: Told after each trial.

    Returns:
        The trials in the order in which they were made; the last one is what `output` holds.

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
        raise GateError(f"{output}: loses {best.drop:.4f} AP with every block in float; expected at most {max_drop:g}")
    others = [trial for trial in trials if trial != best]
    return [*others, best]


def fewest(total: int, fits: Callable[[int], bool]) -> int:
    """The smallest count from 0 to `total` that fits, if whatever fits also fits with more; `total` if none does."""
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

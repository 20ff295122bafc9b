"""Pruning in rounds, each followed by training with the unpruned model as the teacher; can be resumed."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from edge_mrcnn.model.class_rows import compare_classes, map_classes
from edge_mrcnn.prune.budget import Budget, make_budget
from edge_mrcnn.prune.channels import narrow, rank_channels, training_batches
from edge_mrcnn.prune.importance import Importance
from edge_mrcnn.prune.settings import PruneConfig
from edge_mrcnn.prune.sparsity import KeepZeros, Pattern, sparsify
from edge_mrcnn.train.checks import check_data, check_same_data, hash_data
from edge_mrcnn.train.loop import RESUME_FILE, train
from runtimes.errors import UsageError
from runtimes.preprocess import read_image
from runtimes.progress import Say

if TYPE_CHECKING:
    from edge_mrcnn.prune.latency import Stopwatch

PRUNED_FILE = "pruned.pt"
"""File that a round starts its training from."""

TIMED_IMAGES = 8
"""Number of images for measuring latency."""
TRIALS = 4
"""Maximum number of selections that are exported and timed, each corrected by the previous one."""
TOLERANCE = 0.05
"""Tolerance below a budget of multiply-accumulates or channels, as a share."""
REACHED = (0.96, 1.02)
"""Accepted range of the latency, as multiples of the goal; a faster model has lost more accuracy than necessary."""


@dataclass(frozen=True)
class _PruneStep:
    """One round: pruning and training."""

    folder: Path
    share: float
    """Share of the total reduction, in (0, 1]."""
    epochs: int
    is_last: bool


@dataclass(frozen=True)
class _TimedCut:
    """A selection of channels, exported and timed."""

    took_ms: float
    pruned: Checkpoint


def prune_and_train(
    checkpoint: Checkpoint,
    data: CocoData,
    output: str | Path,
    config: PruneConfig,
    training: TrainConfig,
    *,
    teacher: Checkpoint | None = None,
    validation: CocoData | None = None,
    iterations: int = 1,
    resume: bool = False,
    device: str = "auto",
    say: Say = lambda line: None,
) -> Path:
    """Prune to a budget and fine-tune.

    Args:
        checkpoint: A trained model.
        data: Training images; they also rank the channels.
        output: Folder of `best.pt` and the other files of `train`; earlier rounds have folders in it.
        config: How much to remove.
        training: Settings of the fine-tuning; its epochs are shared by all rounds.
        teacher: Teacher for distillation; the unpruned model if None.
        validation: Images for AP.
        iterations: Number of rounds.
        resume: Continue an interrupted run with the same options.
        device: "auto", "cpu", "cuda" or "cuda:N".
        say: Called with each line of progress.

    Returns:
        The path of `best.pt`.

    Raises:
        UsageError: If there are fewer epochs than rounds.
        DataError, ModelFileError: As `train` does.
    """
    if compare_classes(checkpoint.classes, data.classes).is_whole:
        checkpoint = map_classes(checkpoint, data.classes, data.category_ids)
    check_data(checkpoint, data, validation)
    digest = hash_data(data)
    output = Path(output)
    steps = _plan(output, iterations, training.epochs)
    teacher = teacher or replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    cutter = _Cutter(checkpoint, data, config, training.batch, device, say)
    for step in steps:
        start = step.folder / PRUNED_FILE
        if not (resume and start.is_file()):
            narrower = _thin(cutter.cut(checkpoint, step.share), config, step)
            save_checkpoint(start, replace(narrower, training={**narrower.training, "data_sha256": digest}))
        pruned = load_checkpoint(start)
        check_same_data(start, pruned.training.get("data_sha256"), digest)
        for line in describe(pruned):
            say(line)
        settings = replace(training, epochs=step.epochs)
        checkpoint = _train(step, pruned, data, settings, teacher, validation, resume, device)
    return output / "best.pt"


class _Cutter:
    """Removes channels of a model in rounds, towards one budget."""

    def __init__(
        self, original: Checkpoint, data: CocoData, config: PruneConfig, batch: int, device: str, say: Say
    ) -> None:
        self.original = original
        self.data = data
        self.config = config
        self.batch = batch
        self.device = device
        self.say = say

    def cut(self, checkpoint: Checkpoint, share: float) -> Checkpoint:
        """Prune further, to a share of the total reduction."""
        if self.config.is_whole:
            return checkpoint
        budget = replace(self.budget, goal=self.budget.after(share))
        batches = training_batches(self.data, checkpoint, self.batch, self.config.seed)
        importance = rank_channels(checkpoint, batches, self.config, self.device)
        if self.config.latency_ms is None:
            return narrow(checkpoint, importance, self.config, budget)
        return self._cut_to_time(checkpoint, importance, budget)

    def _cut_to_time(self, checkpoint: Checkpoint, importance: Importance, budget: Budget) -> Checkpoint:
        """Prune and time, until the file meets the latency and is hardly faster; the best of all trials is used."""
        from edge_mrcnn.prune.latency import corrected

        trials: list[_TimedCut] = []
        least, most = (share * budget.goal for share in REACHED)
        for _ in range(TRIALS):
            pruned = narrow(checkpoint, importance, self.config, budget)
            macs = _macs(pruned)
            if any(macs == _macs(trial.pruned) for trial in trials):
                break  # the corrected budget gives a model that was already timed
            took_ms, _ = self.watch.time(pruned, self.detections)
            self.say(f"{self.config.runtime}: {took_ms:.1f} ms with {macs / 1e9:.3f} GMAC")
            trials.append(_TimedCut(took_ms, pruned))
            if least <= took_ms <= most:
                break
            budget = corrected(budget, pruned, took_ms)

        within = [trial for trial in trials if trial.took_ms <= most]
        if within:
            return max(within, key=attrgetter("took_ms")).pruned  # the slowest one within the budget is pruned least
        quickest = min(trials, key=attrgetter("took_ms"))
        out_of_reach = f"{budget.goal:.1f} ms cannot be reached; the fastest variant takes {quickest.took_ms:.1f} ms"
        self.say(f"{self.config.runtime}: {out_of_reach}")
        return quickest.pruned

    @cached_property
    def budget(self) -> Budget:
        """Importance by the original model, whatever has been pruned since."""
        if self.config.latency_ms is None:
            return make_budget(self.original, self.config)
        from edge_mrcnn.prune.latency import latency_budget

        full, _ = self.timed
        goal = self.config.latency_ms
        if goal >= full:
            raise UsageError(
                f"--target-latency-ms {goal:g}: expected less than {full:.1f} ms, the latency of the unpruned model"
            )
        self.say(
            f"{self.config.runtime}: the unpruned model takes {full:.1f} ms, the budget is {goal:.1f} ms; "
            "timing the layers"
        )
        return latency_budget(self.original, full, goal, self.detections, self.watch)

    @property
    def detections(self) -> float:
        """Detections per image of the original; every pruned model is timed with this number."""
        _, detections = self.timed
        return detections

    @cached_property
    def timed(self) -> tuple[float, float]:
        """Milliseconds and detections of the original."""
        self.say(f"timing the model on {self.config.runtime}")
        return self.watch.time(self.original)

    @cached_property
    def watch(self) -> Stopwatch:
        """Timer with the first training images on the runtime of the budget."""
        from edge_mrcnn.prune.latency import Stopwatch

        images = [read_image(image.path) for image in self.data.images[:TIMED_IMAGES]]
        return Stopwatch(self.config.runtime, images, self.config.threads)


def _macs(pruned: Checkpoint) -> int:
    """Remaining multiply-accumulates."""
    before, left = pruned.training["pruned"]["macs"]
    return int(left)


def _plan(output: Path, iterations: int, epochs: int) -> list[_PruneStep]:
    """The first rounds are short: an eighth of an equal share; the last one has the rest, and the folder itself."""
    if iterations < 1 or (epochs and epochs < iterations):
        raise UsageError(f"--iterations {iterations}: expected at least 1, and at most as many as the {epochs} epochs")
    short = max(1, epochs // (2 * iterations)) if epochs else 0
    steps = []
    for number in range(1, iterations):
        folder = output / f"step-{number}"
        steps.append(_PruneStep(folder, number / iterations, short, is_last=False))
    rest = epochs - short * len(steps)
    steps.append(_PruneStep(output, 1.0, rest, is_last=True))
    return steps


def _thin(pruned: Checkpoint, config: PruneConfig, step: _PruneStep) -> Checkpoint:
    """Set single weights to zero, if requested, after all channels have been removed."""
    if not (config.sparsity and step.is_last):
        return pruned
    return sparsify(pruned, Pattern.named(config.sparsity))


def _train(
    step: _PruneStep,
    pruned: Checkpoint,
    data: CocoData,
    training: TrainConfig,
    teacher: Checkpoint,
    validation: CocoData | None,
    resume: bool,
    device: str,
) -> Checkpoint:
    """Fine-tune a round and load its result; a finished round is only loaded."""
    if not training.epochs:
        shutil.copyfile(step.folder / PRUNED_FILE, step.folder / "best.pt")
        return pruned
    if not (resume and _is_done(step.folder, training.epochs)):
        if pruned.model.backbone.out_channels != teacher.model.backbone.out_channels:
            # fine-tuning is too short to train an adapter between the widths.
            training = replace(training, distill_features=0.0)
        train(
            pruned,
            data,
            step.folder,
            training,
            validation=validation if step.is_last else None,
            device=device,
            resume=resume and (step.folder / RESUME_FILE).is_file(),
            teacher=teacher,
            callbacks=(KeepZeros(pruned.model),) if "sparse" in pruned.training else (),
        )
    return load_checkpoint(step.folder / ("best.pt" if step.is_last else "last.pt"))


def _is_done(folder: Path, epochs: int) -> bool:
    last = folder / "last.pt"
    return last.is_file() and load_checkpoint(last).training.get("epoch") == epochs


def _describe_miss(asked: float | None, reached: float | None) -> list[str]:
    """A line if a budget was not met, or exceeded; empty for records of earlier versions."""
    if asked is None or reached is None or asked * (1 - TOLERANCE) <= reached <= asked:
        return []
    if reached > asked:
        return [
            f"{100 * asked:.0f} % cannot be reached, {100 * reached:.0f} % remain: each group of channels keeps its "
            "minimum share, and layers whose channels have fixed positions are not pruned"
        ]
    return [f"asked for {100 * asked:.0f} %, {100 * reached:.0f} % are left: one step of a group is that large"]


def describe(pruned: Checkpoint) -> list[str]:
    """What was removed, and its effect, one line each."""
    lines = []
    if "pruned" in pruned.training:
        lines.append(_describe_channels(pruned))
        record = pruned.training["pruned"]
        lines += _describe_miss(record.get("asked"), record.get("reached"))
    if "sparse" in pruned.training:
        lines.append(_describe_zeros(pruned))
    return lines


def _describe_channels(pruned: Checkpoint) -> str:
    record = pruned.training["pruned"]
    parameters, parameters_left = record["parameters"]
    macs, macs_left = record["macs"]
    return (
        f"{macs / 1e9:.3f} GMAC -> {macs_left / 1e9:.3f} (-{100 * (1 - macs_left / macs):.0f} %), "
        f"{parameters / 1e6:.2f} M parameters -> {parameters_left / 1e6:.2f} M, "
        f"with {pruned.config.proposals} proposals and {pruned.config.max_detections} detections"
    )


def _describe_zeros(pruned: Checkpoint) -> str:
    record = pruned.training["sparse"]
    dense_mb, sparse_mb = record["compressed_mb"]
    return (
        f"{100 * record['share']:.0f} % of all weights are zero: the zipped file shrinks from {dense_mb:.2f} to "
        f"{sparse_mb:.2f} MB; size in memory and latency stay as they are, for the runtimes multiply by zero, too"
    )

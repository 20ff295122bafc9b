"""Pruning in steps, each followed by training with the unpruned model as the teacher; it can be resumed."""

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
"""What a step starts its training from."""

TIMED_IMAGES = 8
"""Pictures that a latency is measured on."""
TRIALS = 4
"""How many choices are exported and timed at most, each corrected by the one before."""
TOLERANCE = 0.05
"""A budget of multiply-accumulates or channels is met from below, by at most this share of it."""
REACHED = (0.96, 1.02)
"""A time between these multiples of the goal is good enough; what is below has lost more than it had to."""


@dataclass(frozen=True)
class _PruneStep:
    """One of the cuts, and the training behind it."""

    folder: Path
    share: float
    """Of the way to the budget, in (0, 1]."""
    epochs: int
    is_last: bool


@dataclass(frozen=True)
class _TimedCut:
    """A choice of channels, exported and timed."""

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
        data: Training images; they rank the channels, too.
        output: Folder of `best.pt` and all else that `train` writes; earlier steps have folders in it.
        config: How much to remove.
        training: How to fine-tune; its epochs are those of all steps together.
        teacher: Whose answers are learnt; the unpruned model if None.
        validation: Images for AP.
        iterations: In how many steps channels go.
        resume: Go on where an interrupted run with the same options stopped.
        device: "auto", "cpu", "cuda" or "cuda:N".
        say: Told one line of progress at a time.

    Returns:
        The path of `best.pt`.

    Raises:
        UsageError: If there are fewer epochs than steps.
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
    """Takes channels out of a model in steps, towards one budget."""

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
        """Go on to a share of the way."""
        if self.config.is_whole:
            return checkpoint
        budget = replace(self.budget, goal=self.budget.after(share))
        batches = training_batches(self.data, checkpoint, self.batch, self.config.seed)
        importance = rank_channels(checkpoint, batches, self.config, self.device)
        if self.config.latency_ms is None:
            return narrow(checkpoint, importance, self.config, budget)
        return self._cut_to_time(checkpoint, importance, budget)

    def _cut_to_time(self, checkpoint: Checkpoint, importance: Importance, budget: Budget) -> Checkpoint:
        """Cut and time, until the file keeps the time and is hardly faster; of all trials the best one counts."""
        from edge_mrcnn.prune.latency import corrected

        trials: list[_TimedCut] = []
        least, most = (share * budget.goal for share in REACHED)
        for _ in range(TRIALS):
            pruned = narrow(checkpoint, importance, self.config, budget)
            macs = _macs(pruned)
            if any(macs == _macs(trial.pruned) for trial in trials):
                break  # the correction changes nothing any more
            took_ms, _ = self.watch.time(pruned, self.detections)
            self.say(f"{self.config.runtime}: {took_ms:.1f} ms with {macs / 1e9:.3f} GMAC")
            trials.append(_TimedCut(took_ms, pruned))
            if least <= took_ms <= most:
                break
            budget = corrected(budget, pruned, took_ms)

        within = [trial for trial in trials if trial.took_ms <= most]
        if within:
            return max(within, key=attrgetter("took_ms")).pruned  # it lost least
        quickest = min(trials, key=attrgetter("took_ms"))
        out_of_reach = f"{budget.goal:.1f} ms are out of reach, the quickest takes {quickest.took_ms:.1f} ms"
        self.say(f"{self.config.runtime}: {out_of_reach}")
        return quickest.pruned

    @cached_property
    def budget(self) -> Budget:
        """Of the original model, whatever has been cut since."""
        if self.config.latency_ms is None:
            return make_budget(self.original, self.config)
        from edge_mrcnn.prune.latency import latency_budget

        full, _ = self.timed
        goal = self.config.latency_ms
        if goal >= full:
            raise UsageError(f"--target-latency-ms {goal:g}: the model takes {full:.1f} ms as it is; give less")
        self.say(f"{self.config.runtime}: {full:.1f} ms, to become {goal:.1f}; timing its layers")
        return latency_budget(self.original, full, goal, self.detections, self.watch)

    @property
    def detections(self) -> float:
        """Objects that the original finds in an image, and every cut model is timed with."""
        _, detections = self.timed
        return detections

    @cached_property
    def timed(self) -> tuple[float, float]:
        """Milliseconds and detections of the original."""
        self.say(f"timing the model on {self.config.runtime}")
        return self.watch.time(self.original)

    @cached_property
    def watch(self) -> Stopwatch:
        """Shows the first training images to the runtime of the budget."""
        from edge_mrcnn.prune.latency import Stopwatch

        images = [read_image(image.path) for image in self.data.images[:TIMED_IMAGES]]
        return Stopwatch(self.config.runtime, images, self.config.threads)


def _macs(pruned: Checkpoint) -> int:
    """Multiply-accumulates that are left."""
    before, left = pruned.training["pruned"]["macs"]
    return int(left)


def _plan(output: Path, iterations: int, epochs: int) -> list[_PruneStep]:
    """The first steps are short: an eighth of what each would get; the last one has the rest, and the folder itself."""
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
    """Set single weights to zero, if that is asked for, once all channels are gone that have to go."""
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
    """Fine-tune a step and read what it gives; one that is done already is only read."""
    if not training.epochs:
        shutil.copyfile(step.folder / PRUNED_FILE, step.folder / "best.pt")
        return pruned
    if not (resume and _is_done(step.folder, training.epochs)):
        if pruned.model.backbone.out_channels != teacher.model.backbone.out_channels:
            training = replace(training, distill_features=0.0)  # few epochs do not pay for learning an adapter
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
    """A line where a budget was not met, or more was removed than it took; nothing of earlier versions' records."""
    if asked is None or reached is None or asked * (1 - TOLERANCE) <= reached <= asked:
        return []
    if reached > asked:
        return [
            f"{100 * asked:.0f} % are out of reach, {100 * reached:.0f} % are left: each group of channels keeps its "
            "least share, and layers whose channels are tied to their places are not narrowed"
        ]
    return [f"asked for {100 * asked:.0f} %, {100 * reached:.0f} % are left: one step of a group is that large"]


def describe(pruned: Checkpoint) -> list[str]:
    """What was removed, and what that changes, a line each."""
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
        f"{100 * record['share']:.0f} % of all weights are zero: a zipped file shrinks from {dense_mb:.2f} to "
        f"{sparse_mb:.2f} MB; size in memory and latency stay as they are, for the runtimes multiply by zero, too"
    )

"""Callbacks of a training: the moving average, the evaluation, and the checkpoints."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint
from edge_mrcnn.reference import TorchRuntime
from edge_mrcnn.train.samples import draw_samples

log = logging.getLogger(__name__)

CHECKPOINT_STATE = "BestCheckpoint"
"""Key of the state of `BestCheckpoint` in a resume file."""


def ema_update(decay: float) -> Callable[[Any, Any, Any], None]:
    """The update of an exponential moving average that adapts quickly at first.

    The decay of update n is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
        n = int(count)
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))
        else:
            torch._foreach_copy_(averaged, current)

    return update


class MovingAverage(Callback):
    """Keeps an exponential moving average of weights and BatchNorm statistics, also over a resume."""

    def __init__(self, model: MaskRCNN, decay: float) -> None:
        self.average = AveragedModel(model, multi_avg_fn=ema_update(decay), use_buffers=True)

    def on_train_batch_end(self, trainer: lightning.Trainer, task: Any, *_: Any) -> None:
        """Update the average after each step."""
        self.average.to(task.device).update_parameters(task.model)

    def state_dict(self) -> dict[str, Any]:
        """Weights of the average, for an exact resume."""
        return self.average.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved average."""
        self.average.load_state_dict(state_dict)


class BestCheckpoint(Callback):
    """Evaluates after an epoch, and writes `last.pt`, and `best.pt` if mask AP is the best so far."""

    def __init__(
        self,
        folder: Path,
        base: Checkpoint,
        validation: CocoData | None,
        average: MovingAverage | None,
        *,
        every: int,
        limit: int,
        patience: int = 0,
    ) -> None:
        self.folder = folder
        self.base = base
        self.validation = validation
        self.average = average
        self.every = every
        self.limit = limit
        self.patience = patience
        self.best: float | None = None
        self.stale = 0

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: Any) -> None:
        """Remove the AP of an earlier epoch, which Lightning would report again."""
        for key in [key for key in trainer.callback_metrics if key.startswith("val/")]:
            del trainer.callback_metrics[key]

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        """Evaluate the averaged weights on the first process, while the others wait, and stop early if due."""
        epoch = trainer.current_epoch + 1
        due = epoch % self.every == 0 or epoch == trainer.max_epochs
        if trainer.is_global_zero:
            self._save(task, epoch, due)
        if due and self.patience and trainer.strategy.broadcast(self.stale >= self.patience):
            trainer.should_stop = True
            if epoch < (trainer.max_epochs or epoch):
                log.warning("stopped after epoch %d: no better mask AP in %d evaluations", epoch, self.patience)

    def _save(self, task: Any, epoch: int, due: bool) -> None:
        checkpoint = self._snapshot(task, epoch)
        evaluation = self._evaluate(checkpoint, task.device) if due and self.validation else None
        if evaluation is not None:
            task.log_dict({"val/box_ap": evaluation.box.ap, "val/mask_ap": evaluation.mask.ap}, rank_zero_only=True)
            checkpoint.training.update(box_ap=evaluation.box.ap, mask_ap=evaluation.mask.ap)
        save_checkpoint(self.folder / "last.pt", checkpoint)
        if self._is_best(evaluation):
            save_checkpoint(self.folder / "best.pt", checkpoint)

    def _snapshot(self, task: Any, epoch: int) -> Checkpoint:
        model = self.average.average.module if self.average else task.model
        model = copy.deepcopy(model).eval().requires_grad_(False)
        return replace(self.base, model=model, training={**self.base.training, "epoch": epoch})

    def _evaluate(self, checkpoint: Checkpoint, device: torch.device) -> Evaluation:
        assert self.validation is not None
        runtime = TorchRuntime(checkpoint, device=str(device))
        draw_samples(runtime, self.validation, self.folder / "samples" / f"epoch-{checkpoint.training['epoch']:02}.jpg")
        return evaluate(runtime, self.validation, limit=self.limit)

    def _is_best(self, evaluation: Evaluation | None) -> bool:
        """Without a validation set, the last weights are saved as the best."""
        if evaluation is None:
            return self.validation is None
        # no object of a class of the model, so the last weights are saved as the best
        if math.isnan(evaluation.mask.ap):
            return True
        improved = self.best is None or evaluation.mask.ap >= self.best
        self.stale = 0 if self.best is None or evaluation.mask.ap > self.best else self.stale + 1
        if improved:
            self.best = evaluation.mask.ap
        return improved

    def state_dict(self) -> dict[str, Any]:
        """The best AP so far, for an exact resume, and the classes, to check that the data is the same."""
        return {"best": self.best, "stale": self.stale, "classes": list(self.base.classes)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the saved best AP."""
        self.best = state_dict["best"]
        self.stale = state_dict.get("stale", 0)

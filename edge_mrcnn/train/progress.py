"""One line that moves while an epoch runs, and one that stays when it is done."""

from __future__ import annotations

import sys
import time
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback


class EpochLines(Callback):
    """Writes progress to stderr: step, loss, images per second, time left; AP when there is one."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.live = sys.stderr.isatty()
        self._shown = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: Any) -> None:
        """Start the clock of the epoch."""
        self._start = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Refresh the moving line, at most twice a second."""
        now = time.monotonic()
        if not (self.live and trainer.is_global_zero and now - self._shown > 0.5):
            return
        self._shown = now
        rate = (index + 1) / (now - self._start)
        left = (self.steps - index - 1) / rate
        images = rate * len(batch[0]) * trainer.world_size
        sys.stderr.write(
            f"\r\x1b[Kepoch {trainer.current_epoch + 1}/{trainer.max_epochs}  step {index + 1}/{self.steps}  "
            f"loss {float(outputs['loss']):.3f}  {images:.1f} img/s  {left:.0f} s left in the epoch"
        )
        sys.stderr.flush()

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        """Leave one line for the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.logged_metrics
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        parts += [f"{label} {float(metrics[key]):.3f}" for label, key in _SHOWN if key in metrics]
        parts.append(f"{time.monotonic() - self._start:.0f} s")
        sys.stderr.write(("\r\x1b[K" if self.live else "") + "  ".join(parts) + "\n")
        sys.stderr.flush()


_SHOWN = (("loss", "loss/total"), ("box AP", "val/box_ap"), ("mask AP", "val/mask_ap"))

"""Progress of an epoch: a line that is updated, a line that stays at its end, and a row in `metrics.csv`."""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback


class EpochLines(Callback):
    """Writes progress to stderr: step, loss, images per second, time left; AP if there is one."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.live = sys.stderr.isatty()
        self._shown = 0.0

    def on_train_epoch_start(self, trainer: lightning.Trainer, task: Any) -> None:
        """Start timing the epoch."""
        self._start = time.monotonic()

    def on_train_batch_end(self, trainer: lightning.Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        """Update the progress line, at most twice a second."""
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
        """Write one line for the epoch."""
        if not trainer.is_global_zero:
            return
        metrics = epoch_metrics(trainer)
        parts = [f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"]
        parts += [f"{label} {float(metrics[key]):.3f}" for label, key in _SHOWN if key in metrics]
        parts.append(f"{time.monotonic() - self._start:.0f} s")
        sys.stderr.write(("\r\x1b[K" if self.live else "") + "  ".join(parts) + "\n")
        sys.stderr.flush()


_SHOWN = (("loss", "loss/total"), ("box AP", "val/box_ap"), ("mask AP", "val/mask_ap"))


class MetricsFile(Callback):
    """Writes a row per epoch: the mean of each loss, and AP if there is one. A resumed training appends to it."""

    COLUMNS = (
        "epoch", "step", "loss/total", "loss/objectness", "loss/rpn_box_reg", "loss/classifier", "loss/box_reg",
        "loss/mask", "val/box_ap", "val/mask_ap",
    )  # fmt: skip

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        """Append the row of this epoch to those of earlier epochs."""
        if not trainer.is_global_zero:
            return
        epoch = trainer.current_epoch + 1
        values = {key: f"{value:.6g}" for key, value in epoch_metrics(trainer).items()}
        row = {"epoch": epoch, "step": trainer.global_step, **values}
        rows = [*(r for r in self._read() if int(r["epoch"]) < epoch), row] if epoch > 1 else [row]
        with self.path.open("w", newline="") as file:
            # Losses of distillation.
            more = sorted(key for key in row if key.startswith("loss/") and key not in self.COLUMNS)
            writer = csv.DictWriter(file, (*self.COLUMNS, *more), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))


def epoch_metrics(trainer: lightning.Trainer) -> dict[str, float]:
    """Figures of the last epoch: losses are means over its steps."""
    return {
        key.removesuffix("_epoch"): float(value)
        for key, value in trainer.callback_metrics.items()
        if key.startswith("val/") or key.endswith("_epoch")
    }

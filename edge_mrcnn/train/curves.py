"""The curves of a training as an image, drawn again after every epoch from `metrics.csv`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


class CurvesPicture(Callback):
    """Writes `curves.png` beside a metrics file; it must run after the callback that writes that file."""

    def __init__(self, metrics: Path) -> None:
        self.metrics = metrics

    def on_train_epoch_end(self, trainer: lightning.Trainer, task: Any) -> None:
        """Draw all epochs so far."""
        if trainer.is_global_zero:
            draw_curves(self.metrics, self.metrics.with_name("curves.png"))


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw each loss, and AP if there is any, over the epochs.

    Args:
        metrics: CSV with a column "epoch" and columns "loss/..." and "val/...".
        picture: PNG to write.
    """
    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    groups = {"loss": _columns(rows, "loss/"), "AP on the validation images": _columns(rows, "val/")}
    groups = {title: curves for title, curves in groups.items() if curves}
    figure = Figure(figsize=(5.5 * len(groups), 3.8), dpi=110, layout="constrained")
    axes = figure.subplots(1, len(groups), squeeze=False)[0]
    for axis, (title, curves) in zip(axes, groups.items(), strict=True):
        _draw(axis, title, curves)
    figure.savefig(picture)


def _columns(rows: list[dict[str, str]], prefix: str) -> dict[str, list[tuple[int, float]]]:
    """Curve name -> (epoch, value), for existing values."""
    names = [name for name in (rows[0] if rows else {}) if name.startswith(prefix)]
    curves = {
        name.removeprefix(prefix).replace("_", " "): [(int(r["epoch"]), float(r[name])) for r in rows if r[name]]
        for name in names
    }
    return {name: curve for name, curve in curves.items() if curve}


def _draw(axis: Axes, title: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    for name, curve in curves.items():
        emphasis = 2.4 if name in ("total", "mask ap") else 1.2
        axis.plot(*zip(*curve, strict=True), label=name, linewidth=emphasis, marker="o", markersize=2.5)
    axis.set_title(title, loc="left", fontsize=10)
    axis.set_xlabel("epoch", fontsize=9)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False)

"""How long a model would take at widths that it does not have yet, on the runtime of this machine.

Layers are timed one by one at full and at half width, and in between a layer's time is taken as a bilinear function of
its two widths. What the exported file takes beyond their sum (RoIAlign, NMS, layers that stay as they are) counts as
fixed. The table only guides the choice: the pruned file is exported and timed, and the fixed part is corrected by what
came out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import runtimes
from edge_mrcnn.export.pipeline import ExportConfig, export
from edge_mrcnn.measure.latency import measure_latency
from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint
from edge_mrcnn.prune.budget import Budget
from edge_mrcnn.prune.costs import Layer, Widths, describe_layers
from edge_mrcnn.prune.groups import find_groups
from edge_mrcnn.prune.probes import Probe, time_probe

MASK_BATCH = 4
"""Boxes per run of a TFLite file's `mask` signature."""

Terms = tuple[float, float, float, float]
"""Of a time in milliseconds: constant, per output, per input, per pair of both."""


@dataclass(frozen=True)
class LatencyCost:
    """Milliseconds of one image."""

    layers: dict[str, Terms]
    base: float

    def of_layer(self, name: str, outputs: int, inputs: int) -> float:
        """Time of one layer; 0 for those whose widths do not change."""
        fixed, per_output, per_input, per_pair = self.layers.get(name, (0.0, 0.0, 0.0, 0.0))
        return fixed + per_output * outputs + per_input * inputs + per_pair * outputs * inputs


@dataclass(frozen=True)
class Stopwatch:
    """Times models as files of one runtime."""

    runtime: str
    images: Sequence[np.ndarray]
    """(H, W, 3) uint8 RGB each."""
    threads: int | None = None

    def time(self, checkpoint: Checkpoint) -> tuple[float, float]:
        """Milliseconds from frame to detections, the median over the images, and the mean number of detections."""
        with TemporaryDirectory() as folder:
            weights = Path(folder) / "model.pt"
            save_checkpoint(weights, checkpoint)
            (file,) = export(weights, folder, ExportConfig(targets=(self.runtime,)))
            with runtimes.load(file, threads=self.threads) as model:
                (stages,) = measure_latency([model], self.images)
                found = np.mean([len(model.infer(image).scores) for image in self.images])
        return stages["total"].p50, float(found)


def latency_budget(checkpoint: Checkpoint, goal_ms: float, watch: Stopwatch) -> Budget:
    """Time the file and its layers.

    Args:
        checkpoint: The model to be pruned.
        goal_ms: What one image may take, in milliseconds.
        watch: Where it is timed.
    """
    full, found = watch.time(checkpoint)
    layers, groups = describe_layers(checkpoint), find_groups(checkpoint)
    touched = {name for group in groups for name in (*group.writers, *group.readers)} & set(layers)
    rows = max(1, round(found))
    table = {name: time_layer(layers[name], rows if _is_mask(name) else None, watch) for name in sorted(touched)}
    cost = LatencyCost(table, 0.0)
    total = Widths(layers, groups).total(cost)
    if total > 0.9 * full:  # single layers hand over their results less well than neighbours in a net do
        table = {name: tuple(0.9 * full / total * term for term in terms) for name, terms in table.items()}  # type: ignore[misc]
        total = 0.9 * full
    return Budget(LatencyCost(table, full - total), full, goal_ms)


def corrected(budget: Budget, pruned: Checkpoint, measured_ms: float) -> Budget:
    """The budget with the fixed part that explains what a pruned model really takes."""
    assert isinstance(budget.cost, LatencyCost)
    predicted = Widths(describe_layers(pruned), find_groups(pruned)).total(budget.cost)
    cost = replace(budget.cost, base=budget.cost.base + measured_ms - predicted)
    return replace(budget, cost=cost, full=measured_ms)


def time_layer(layer: Layer, rows: int | None, watch: Stopwatch) -> Terms:
    """Time a layer at full and half of both widths.

    Args:
        layer: The layer.
        rows: Regions that it is given, if not those of its calls.
        watch: States the runtime.
    """
    half_in = max(1, layer.inputs // 2)
    points = [
        (outputs, inputs)
        for outputs, inputs in product({layer.outputs, max(1, layer.outputs // 2)}, {layer.inputs, half_in})
    ]
    if layer.kind == "depthwise":
        points = [(width, width) for width in {layer.outputs, half_in}]
    times = {point: sum(_time_call(layer, point, call, rows, watch) for call in layer.calls) for point in points}
    return fit_terms(times)


def fit_terms(times: Mapping[tuple[int, int], float]) -> Terms:
    """The function of (outputs, inputs) through measured times; of least size where they do not determine it."""
    matrix = np.array([(1, outputs, inputs, outputs * inputs) for outputs, inputs in times], float)
    scale = np.abs(matrix).max(0)
    terms = np.linalg.lstsq(matrix / scale, np.array(list(times.values())), rcond=None)[0] / scale
    return tuple(map(float, terms))  # type: ignore[return-value]


def _time_call(
    layer: Layer, widths: tuple[int, int], call: tuple[int, int, int], rows: int | None, watch: Stopwatch
) -> float:
    outputs, inputs = widths
    count, height, width = call
    count, runs = rows or count, 1
    if rows and watch.runtime == "tflite":
        count, runs = MASK_BATCH, -(-rows // MASK_BATCH)
    probe = Probe(layer.kind, inputs, outputs, layer.kernel, layer.stride, count, height, width)
    return runs * time_probe(probe, watch.runtime, watch.threads)


def _is_mask(name: str) -> bool:
    return name.startswith("roi_heads.mask")

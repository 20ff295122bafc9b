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
from edge_mrcnn.prune.probes import Probe, time_probes

MASK_BATCH = 4
"""Boxes per run of a TFLite file's `mask` signature."""

TURNS = 3
"""How often a file is timed."""
MOST_OF_FILE = 0.9
"""Share of a file's time that its layers make up at most: single ones pass on results less well than neighbours do."""

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
        """Milliseconds from frame to detections, and the mean number of detections.

        The least of a few medians over the images, since a busy moment makes all of one turn slow.
        """
        with TemporaryDirectory() as folder:
            weights = Path(folder) / "model.pt"
            save_checkpoint(weights, checkpoint)
            (file,) = export(weights, folder, ExportConfig(targets=(self.runtime,)))
            with runtimes.load(file, threads=self.threads) as model:
                took = [measure_latency([model], self.images)[0]["total"].p50 for _ in range(TURNS)]
                found = np.mean([len(model.infer(image).scores) for image in self.images])
        return min(took), float(found)


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
    table = time_layers({name: layers[name] for name in layers if name in touched}, rows, watch)
    total = Widths(layers, groups).total(LatencyCost(table, 0.0))
    scale = min(1.0, MOST_OF_FILE * full / total)
    scaled: dict[str, Terms] = {
        name: (scale * fixed, scale * per_output, scale * per_input, scale * per_pair)
        for name, (fixed, per_output, per_input, per_pair) in table.items()
    }
    return Budget(LatencyCost(scaled, full - scale * total), full, goal_ms)


def corrected(budget: Budget, pruned: Checkpoint, measured_ms: float) -> Budget:
    """The budget with the fixed part that explains what a pruned model really takes."""
    assert isinstance(budget.cost, LatencyCost)
    predicted = Widths(describe_layers(pruned), find_groups(pruned)).total(budget.cost)
    cost = replace(budget.cost, base=budget.cost.base + measured_ms - predicted)
    return replace(budget, cost=cost, full=measured_ms)


def time_layers(layers: Mapping[str, Layer], detections: int, watch: Stopwatch) -> dict[str, Terms]:
    """Time layers at full and half of both widths.

    Args:
        layers: Name to layer.
        detections: Regions that the mask head is given.
        watch: States the runtime.
    """
    calls = {
        (name, widths): _probes(layer, widths, detections if name.startswith("roi_heads.mask") else None, watch.runtime)
        for name, layer in layers.items()
        for widths in _grid(layer)
    }
    times = time_probes({probe for probes in calls.values() for probe in probes}, watch.runtime, watch.threads)
    sums = {key: sum(runs * times[probe] for probe, runs in probes.items()) for key, probes in calls.items()}
    return {name: fit_terms({widths: sums[name, widths] for widths in _grid(layer)}) for name, layer in layers.items()}


def fit_terms(times: Mapping[tuple[int, int], float]) -> Terms:
    """The function of (outputs, inputs) through measured times; of least size where they do not determine it.

    A narrower layer that seems to take longer was disturbed: it counts as long as the wider one.
    """
    steady = [
        min(took for (out, into), took in times.items() if out >= outputs and into >= inputs)
        for outputs, inputs in times
    ]
    matrix = np.array([(1, outputs, inputs, outputs * inputs) for outputs, inputs in times], float)
    scale = matrix.max(0)
    fixed, per_output, per_input, per_pair = np.linalg.lstsq(matrix / scale, np.array(steady), rcond=None)[0] / scale
    return float(fixed), float(per_output), float(per_input), float(per_pair)


def _grid(layer: Layer) -> list[tuple[int, int]]:
    """Outputs and inputs that a layer is timed at."""
    outputs, inputs = (sorted({max(1, width // 2), width}) for width in (layer.outputs, layer.inputs))
    if layer.kind == "depthwise":
        return [(width, width) for width in outputs]
    return list(product(outputs, inputs))


def _probes(layer: Layer, widths: tuple[int, int], rows: int | None, runtime: str) -> dict[Probe, int]:
    """What is run for one image, and how often."""
    found: dict[Probe, int] = {}
    for regions, height, width in layer.calls:
        count, runs = rows or regions, 1
        if rows and runtime == "tflite":
            count, runs = MASK_BATCH, -(-rows // MASK_BATCH)
        outputs, inputs = widths
        probe = Probe(layer.kind, inputs, outputs, layer.kernel, layer.stride, count, height, width)
        found[probe] = found.get(probe, 0) + runs
    return found

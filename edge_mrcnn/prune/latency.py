"""How long a model would take at widths that it does not have yet, on the runtime of this machine.

Layers are timed one by one at full and at half width, and in between a layer's time is taken as a bilinear function of
its two widths. What the exported file takes beyond their sum (RoIAlign, NMS, layers that stay as they are) counts as
fixed. The table only guides the choice: the pruned file is exported and timed, and the table corrected by what came
out.

A model that was cut and not trained yet finds objects everywhere, or none. Masks cost time, so models are timed while
they find as many objects as the original does, by their score threshold.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import runtimes
from edge_mrcnn.export.graph import MASK_BATCH
from edge_mrcnn.export.pipeline import ExportConfig, adapt, export
from edge_mrcnn.measure.latency import measure_latency
from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint
from edge_mrcnn.prune.budget import Budget
from edge_mrcnn.prune.costs import Layer, Widths, describe_layers
from edge_mrcnn.prune.groups import find_groups
from edge_mrcnn.prune.probes import LayerProbe, time_probes
from edge_mrcnn.reference import TorchRuntime

TURNS = 3
"""How often a file is timed."""
ANY_SCORE = 1e-6
"""A score threshold that all but dead rows pass."""
LEAST_GAIN = 0.1
"""Share of what the table promises that a correction believes in at least, so that noise cannot turn it around."""
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

    def time(self, checkpoint: Checkpoint, detections: float | None = None) -> tuple[float, float]:
        """Export and time a model.

        Args:
            checkpoint: The model; it is not changed.
            detections: Mean number of objects that it shall find in an image; as its score threshold has it if None.

        Returns:
            Milliseconds from frame to detections, the mean over the images, and the mean number of detections. The
            least time of a few turns counts, since a busy moment makes all of one turn slow.
        """
        threshold = None if detections is None else equal_threshold(checkpoint, self.images, detections)
        config = ExportConfig(targets=(self.runtime,), score_threshold=threshold)
        with TemporaryDirectory() as folder:
            weights = Path(folder) / "model.pt"
            save_checkpoint(weights, checkpoint)
            (file,) = export(weights, folder, config)
            with runtimes.load(file, threads=self.threads) as model:
                took = [_mean_time(model, self.images) for _ in range(TURNS)]
                found = np.mean([len(model.infer(image).scores) for image in self.images])
        return min(took), float(found)


def _mean_time(model: runtimes.Runtime, images: Sequence[np.ndarray]) -> float:
    """Milliseconds for an image; a mean, since objects count wherever they are."""
    return float(np.mean([measure_latency([model], [image])[0]["total"].p50 for image in images]))


def equal_threshold(checkpoint: Checkpoint, images: Sequence[np.ndarray], detections: float) -> float:
    """The score threshold at which a model finds a mean number of objects in images, in (0, 1).

    Args:
        checkpoint: The model; it is not changed.
        images: (H, W, 3) uint8 RGB each.
        detections: Objects for each image; where the model cannot find so many, every score passes.
    """
    own = replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    model = TorchRuntime(adapt(own, ExportConfig(score_threshold=ANY_SCORE)), device="cpu")
    scores = np.sort(np.concatenate([model.infer(image).scores for image in images]))[::-1]
    count = round(detections * len(images))
    if count >= len(scores):
        return ANY_SCORE
    above = scores[count - 1] if count else 1.0
    return max(ANY_SCORE, float(above + scores[count]) / 2)


def latency_budget(
    checkpoint: Checkpoint, full_ms: float, goal_ms: float, detections: float, watch: Stopwatch
) -> Budget:
    """Time the layers of a model.

    Args:
        checkpoint: The model to be pruned.
        full_ms: What one image takes, in milliseconds.
        goal_ms: What it may take.
        detections: Objects in an image at both times.
        watch: Where it is timed.
    """
    layers, groups = describe_layers(checkpoint), find_groups(checkpoint)
    touched = {name for group in groups for name in (*group.writers, *group.readers)} & set(layers)
    rows = max(1, round(detections))
    table = time_layers({name: layers[name] for name in layers if name in touched}, rows, watch)
    total = Widths(layers, groups).total(LatencyCost(table, 0.0))
    scale = min(1.0, MOST_OF_FILE * full_ms / total)
    return Budget(LatencyCost(scaled(table, scale), full_ms - scale * total), full_ms, goal_ms)


def corrected(budget: Budget, pruned: Checkpoint, measured_ms: float) -> Budget:
    """The budget whose table gives both the original's time and the one that a pruned model really takes.

    Args:
        budget: Of the original, in milliseconds.
        pruned: What came of it; at its widths and at the original's the table is right afterwards.
        measured_ms: Time of `pruned` with as many objects as the original finds.
    """
    assert isinstance(budget.cost, LatencyCost)
    promised = budget.full - Widths(describe_layers(pruned), find_groups(pruned)).total(budget.cost)
    gain = max(LEAST_GAIN, (budget.full - measured_ms) / promised) if promised > 0 else 1.0
    base = budget.full - gain * (budget.full - budget.cost.base)
    return replace(budget, cost=LatencyCost(scaled(budget.cost.layers, gain), base))


def scaled(layers: Mapping[str, Terms], factor: float) -> dict[str, Terms]:
    """All times of a table multiplied."""
    return {
        name: (factor * fixed, factor * per_output, factor * per_input, factor * per_pair)
        for name, (fixed, per_output, per_input, per_pair) in layers.items()
    }


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


def _probes(layer: Layer, widths: tuple[int, int], rows: int | None, runtime: str) -> dict[LayerProbe, int]:
    """What is run for one image, and how often."""
    found: dict[LayerProbe, int] = {}
    for regions, height, width in layer.calls:
        count, runs = rows or regions, 1
        if rows and runtime == "tflite":
            count, runs = MASK_BATCH, -(-rows // MASK_BATCH)
        outputs, inputs = widths
        probe = LayerProbe(layer.kind, inputs, outputs, layer.kernel, layer.stride, count, height, width)
        found[probe] = found.get(probe, 0) + runs
    return found

"""Latency of a model at other widths, on the runtime of this machine.

Layers are timed one by one at full and at half width; in between, a layer's time is taken as a bilinear function of its
two widths. The exported file's time beyond their sum (RoIAlign, NMS, unchanged layers) counts as constant. The table
only guides the selection: the pruned file is exported and timed, and the table is corrected by the result.

A pruned model before fine-tuning detects too many objects, or none. Masks cost time, so models are timed with as many
detections as the original, by adjusting their score threshold.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

import runtimes
from edge_mrcnn.export.graph import MASK_BATCH
from edge_mrcnn.export.pipeline import adapt, export
from edge_mrcnn.export.settings import ExportConfig
from edge_mrcnn.measure.latency import measure_latency
from edge_mrcnn.model.checkpoint import Checkpoint, save_checkpoint
from edge_mrcnn.prune.budget import Budget
from edge_mrcnn.prune.costs import Layer, Widths, describe_layers
from edge_mrcnn.prune.groups import find_groups
from edge_mrcnn.prune.probes import LayerProbe, time_probes
from edge_mrcnn.reference import TorchRuntime

TURNS = 3
"""Number of timings of a file."""
ANY_SCORE = 1e-6
"""A score threshold that only unused rows fail."""
LEAST_GAIN = 0.1
"""Minimum share of the table's predicted saving that a correction assumes, so that noise cannot reverse it."""
MOST_OF_FILE = 0.9
"""Maximum share of a file's time that its layers account for: single layers are slower than in a whole model."""

Terms = tuple[float, float, float, float]
"""Coefficients of a time in milliseconds: constant, per output, per input, per pair of both."""


@dataclass(frozen=True)
class LatencyCost:
    """Milliseconds of one image."""

    layers: dict[str, Terms]
    base: float

    def of_layer(self, name: str, outputs: int, inputs: int) -> float:
        """Time of one layer; 0 for layers whose widths do not change."""
        fixed, per_output, per_input, per_pair = self.layers.get(name, (0.0, 0.0, 0.0, 0.0))
        return fixed + per_output * outputs + per_input * inputs + per_pair * outputs * inputs


@dataclass(frozen=True)
class Stopwatch:
    """Times models as exported files of one runtime."""

    runtime: str
    images: Sequence[np.ndarray]
    """(H, W, 3) uint8 RGB each."""
    threads: int | None = None

    def time(self, checkpoint: Checkpoint, detections: float | None = None) -> tuple[float, float]:
        """Export and time a model.

        Args:
            checkpoint: The model; it is not changed.
            detections: Mean number of detections per image; as given by its score threshold if None.

        Returns:
            Milliseconds from frame to detections, the mean over the images, and the mean number of detections. The
            shortest time of a few turns counts, because other load slows a whole turn.
        """
        threshold = None
        if detections is not None:
            threshold = equal_threshold(checkpoint, self.images, detections)
        config = ExportConfig(targets=(self.runtime,), score_threshold=threshold)
        with TemporaryDirectory() as folder:
            weights = Path(folder) / "model.pt"
            save_checkpoint(weights, checkpoint)
            (file,) = export(weights, folder, config)
            with runtimes.load(file, threads=self.threads) as model:
                took_ms = [_mean_time(model, self.images) for _ in range(TURNS)]
                found = [len(scores) for scores in _find_scores(model, self.images)]
        return min(took_ms), float(np.mean(found))


def _mean_time(model: runtimes.Runtime, images: Sequence[np.ndarray]) -> float:
    """Milliseconds per image; a mean, because the number of objects matters in every image."""
    took_ms = []
    for image in images:
        (latency,) = measure_latency([model], [image])
        took_ms.append(latency["total"].p50)
    return float(np.mean(took_ms))


def _find_scores(model: runtimes.Runtime, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The scores of the detections in each image."""
    return [model.infer(image).scores for image in images]


def equal_threshold(checkpoint: Checkpoint, images: Sequence[np.ndarray], detections: float) -> float:
    """The score threshold at which a model has a mean number of detections per image, in (0, 1).

    Args:
        checkpoint: The model; it is not changed.
        images: (H, W, 3) uint8 RGB each.
        detections: Detections per image; if the model cannot reach that number, every score passes.
    """
    own = replace(checkpoint, model=copy.deepcopy(checkpoint.model))
    unfiltered = adapt(own, ExportConfig(score_threshold=ANY_SCORE))
    model = TorchRuntime(unfiltered, device="cpu")
    rising = np.sort(np.concatenate(_find_scores(model, images)))
    falling = rising[::-1]
    count = round(detections * len(images))
    if count >= len(falling):
        return ANY_SCORE
    last_in = falling[count - 1] if count else 1.0
    first_out = falling[count]
    return max(ANY_SCORE, float(last_in + first_out) / 2)


def latency_budget(
    checkpoint: Checkpoint, full_ms: float, goal_ms: float, detections: float, watch: Stopwatch
) -> Budget:
    """Time the layers of a model.

    Args:
        checkpoint: The model before pruning.
        full_ms: Latency of one image, in milliseconds.
        goal_ms: Target latency.
        detections: Detections per image at both times.
        watch: Timer of the runtime.
    """
    layers = describe_layers(checkpoint)
    groups = find_groups(checkpoint)
    touched: set[str] = set()
    for group in groups:
        touched.update(group.writers, group.readers)
    changing = {name: layer for name, layer in layers.items() if name in touched}
    rows = max(1, round(detections))
    table = time_layers(changing, rows, watch)
    total = Widths(layers, groups).total(LatencyCost(table, 0.0))
    scale = min(1.0, MOST_OF_FILE * full_ms / total)
    base = full_ms - scale * total  # time of the file that no layer explains
    return Budget(LatencyCost(scaled(table, scale), base), full_ms, goal_ms)


def corrected(budget: Budget, pruned: Checkpoint, measured_ms: float) -> Budget:
    """The budget whose table is exact for the original's time and the measured time of a pruned model.

    Args:
        budget: Budget of the original, in milliseconds.
        pruned: The pruned model; afterwards the table is exact at its widths and at the original's.
        measured_ms: Time of `pruned` with as many detections as the original.
    """
    assert isinstance(budget.cost, LatencyCost)
    widths = Widths(describe_layers(pruned), find_groups(pruned))
    promised_ms = budget.full - widths.total(budget.cost)
    gained_ms = budget.full - measured_ms
    gain = 1.0
    if promised_ms > 0:
        gain = max(LEAST_GAIN, gained_ms / promised_ms)
    base = budget.full - gain * (budget.full - budget.cost.base)
    return replace(budget, cost=LatencyCost(scaled(budget.cost.layers, gain), base))


def scaled(layers: Mapping[str, Terms], factor: float) -> dict[str, Terms]:
    """All times of a table multiplied by a factor."""
    table = {}
    for name, (fixed, per_output, per_input, per_pair) in layers.items():
        table[name] = (factor * fixed, factor * per_output, factor * per_input, factor * per_pair)
    return table


def time_layers(layers: Mapping[str, Layer], detections: int, watch: Stopwatch) -> dict[str, Terms]:
    """Time layers at full and half of both widths.

    Args:
        layers: Name -> layer.
        detections: Number of regions in the mask head.
        watch: Timer of the runtime.
    """
    calls = {}
    for name, layer in layers.items():
        rows = detections if name.startswith("roi_heads.mask") else None
        for widths in _grid(layer):
            calls[name, widths] = _probes(layer, widths, rows, watch.runtime)
    probes: set[LayerProbe] = set()
    for runs_of in calls.values():
        probes.update(runs_of)
    times_ms = time_probes(probes, watch.runtime, watch.threads)

    table = {}
    for name, layer in layers.items():
        measured = {}
        for widths in _grid(layer):
            runs_of = calls[name, widths]
            measured[widths] = sum(runs * times_ms[probe] for probe, runs in runs_of.items())
        table[name] = fit_terms(measured)
    return table


def fit_terms(times: Mapping[tuple[int, int], float]) -> Terms:
    """The function of (outputs, inputs) through measured times, with minimum norm if they do not determine it.

    A narrower layer with a longer time was disturbed: it gets the time of the wider one.
    """
    matrix, steady = [], []
    for outputs, inputs in times:
        matrix.append((1, outputs, inputs, outputs * inputs))
        as_wide = [took for widths, took in times.items() if widths[0] >= outputs and widths[1] >= inputs]
        steady.append(min(as_wide))
    table = np.array(matrix, float)
    scale = table.max(0)  # scaling the columns makes the least squares well conditioned
    solution = np.linalg.lstsq(table / scale, np.array(steady), rcond=None)[0] / scale
    fixed, per_output, per_input, per_pair = solution.tolist()
    return fixed, per_output, per_input, per_pair


def _grid(layer: Layer) -> list[tuple[int, int]]:
    """Outputs and inputs at which a layer is timed."""
    outputs = _full_and_half(layer.outputs)
    if layer.kind == "depthwise":
        return [(width, width) for width in outputs]
    return list(product(outputs, _full_and_half(layer.inputs)))


def _full_and_half(width: int) -> list[int]:
    return sorted({width, max(1, width // 2)})


def _probes(layer: Layer, widths: tuple[int, int], rows: int | None, runtime: str) -> dict[LayerProbe, int]:
    """The layer as it runs for one image, and how often."""
    outputs, inputs = widths
    runs_of: dict[LayerProbe, int] = {}
    for regions, height, width in layer.calls:
        count, runs = rows or regions, 1
        if rows and runtime == "tflite":
            count, runs = MASK_BATCH, math.ceil(rows / MASK_BATCH)
        probe = LayerProbe(layer.kind, inputs, outputs, layer.kernel, layer.stride, count, height, width)
        runs_of[probe] = runs_of.get(probe, 0) + runs
    return runs_of

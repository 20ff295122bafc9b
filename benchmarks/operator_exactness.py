"""Hold the lowered operators of each target against torchvision's, on thousands of generated inputs.

    python benchmarks/operator_exactness.py [--sets 10000] [--targets onnx,onnx-static,openvino,tflite]

NMS must keep the very boxes that greedy NMS keeps in at least 99.99 % of the sets, at thresholds that a float32 holds
exactly (0.5), that it rounds up (0.6) and down (0.7). RoIAlign must be within 1e-4 of torchvision's multi-scale
pooling. One small graph is converted per target. Prints Markdown tables; exits 3 if a target misses.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from torch import Tensor, nn
from torchvision import ops

from edge_mrcnn.export import operators
from edge_mrcnn.export.graph import SMALLEST_PROPOSAL_PX, is_larger

Array = np.ndarray

BOXES, LIMIT = 96, 24
THRESHOLDS = (0.5, 0.6, 0.7)
ROIS, SIZE, RATIO = 20, 7, 2
IMAGE_HW = (96, 160)
STRIDES = (8, 16, 32)
CHANNELS = 10
"""As many as columns of a level, as there are boxes of another: converters have mixed up axes of equal length."""
CANONICAL_SCALE = 60
REQUIRED_SHARE, REQUIRED_DIFFERENCE = 0.9999, 1e-4


class Nms(nn.Module):
    """NMS of one set of boxes at each of `THRESHOLDS`."""

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(BOXES, 4) and (BOXES,) to kept rows (T, LIMIT) and their numbers (T,)."""
        kept, counts = zip(*(operators.nms(boxes, scores, threshold, LIMIT) for threshold in THRESHOLDS), strict=True)
        return torch.stack(kept), torch.stack(counts)


class RoiAlign(nn.Module):
    """Multi-scale RoIAlign from channels-last maps."""

    def forward(self, boxes: Tensor, p0: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        """(ROIS, 4) and (1, H_i, W_i, CHANNELS) to (ROIS, CHANNELS, SIZE, SIZE)."""
        maps = [features.permute(0, 3, 1, 2) for features in (p0, p1, p2)]
        bounds = operators.level_bounds(len(STRIDES), 3, CANONICAL_SCALE, 4)
        pooled: Tensor = operators.multiscale_roi_align(maps, boxes, [1 / s for s in STRIDES], bounds, SIZE, RATIO)
        return pooled


class Lowered(NamedTuple):
    """Both operators as a target runs them."""

    nms: Callable[[Array, Array], list[list[int]]]
    """Boxes and scores to the kept rows at each threshold."""
    roi_align: Callable[[Array, list[Array]], Array]
    """Boxes and channels-last maps to (ROIS, CHANNELS, SIZE, SIZE)."""


def nms_inputs() -> dict[str, Tensor]:
    return {"boxes": torch.zeros(BOXES, 4), "scores": torch.zeros(BOXES)}


def roi_inputs() -> dict[str, Tensor]:
    maps = {f"p{i}": torch.zeros(1, *size, CHANNELS) for i, size in enumerate(map_sizes())}
    return {"boxes": torch.zeros(ROIS, 4), **maps}


def map_sizes() -> list[tuple[int, int]]:
    return [(IMAGE_HW[0] // stride, IMAGE_HW[1] // stride) for stride in STRIDES]


def to_onnx(module: nn.Module, inputs: dict[str, Tensor], outputs: list[str], static: bool) -> Any:
    """An ONNX model of one operator, lowered as `export` lowers it."""
    from edge_mrcnn.export.lowering.onnx_ops import translations
    from edge_mrcnn.export.onnx_target import OPSET, quiet

    with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript"):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), tuple(inputs.values()), dynamo=True, verbose=False, opset_version=OPSET,
            custom_translation_table=translations(static), input_names=list(inputs), output_names=outputs,
        )  # fmt: skip
    return program.model_proto


def lower_onnx(static: bool = False) -> Lowered:
    """Both operators in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    graphs = [
        to_onnx(Nms(), nms_inputs(), ["kept", "counts"], static),
        to_onnx(RoiAlign(), roi_inputs(), ["pooled"], static),
    ]
    nms, roi = (onnxruntime.InferenceSession(g.SerializeToString(), options) for g in graphs)
    return Lowered(
        lambda boxes, scores: live(*nms.run(["kept", "counts"], {"boxes": boxes, "scores": scores})),
        lambda boxes, maps: roi.run(None, {"boxes": boxes, **name_maps(maps)})[0],
    )


def lower_openvino() -> Lowered:
    """Both operators in OpenVINO."""
    from edge_mrcnn.export.openvino_target import simplified
    from runtimes.openvino_backend import shared_core

    graphs = [to_onnx(Nms(), nms_inputs(), ["kept", "counts"], False), to_onnx(RoiAlign(), roi_inputs(), ["p"], False)]
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    nms, roi = (shared_core().compile_model(simplified(g), "CPU", config).create_infer_request() for g in graphs)

    def run(request: Any, inputs: dict[str, Array]) -> list[Array]:
        return [np.array(value) for value in request.infer(inputs).to_tuple()]

    return Lowered(
        lambda boxes, scores: live(*run(nms, {"boxes": boxes, "scores": scores})),
        lambda boxes, maps: run(roi, {"boxes": boxes, **name_maps(maps)})[0],
    )


def lower_tflite() -> Lowered:
    """Both operators in TFLite, as two signatures of one file."""
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's dependencies print many warnings
        import litert_torch
        from ai_edge_litert.interpreter import Interpreter

        from edge_mrcnn.export.lowering import tflite_ops

        converter = litert_torch.Converter()
        converter.signature("nms", Narrowed(Nms()).eval(), sample_kwargs=nms_inputs())
        converter.signature("roi_align", RoiAlign().eval(), sample_kwargs=roi_inputs())
        with tflite_ops.lowered_operators():
            content = converter.convert().model_content()
    interpreter = Interpreter(model_content=content, num_threads=1)
    nms, roi = (interpreter.get_signature_runner(name) for name in ("nms", "roi_align"))
    return Lowered(
        lambda boxes, scores: live(*nms(boxes=boxes, scores=scores).values()),
        lambda boxes, maps: next(iter(roi(boxes=boxes, **name_maps(maps)).values())),
    )


class Narrowed(nn.Module):
    """NMS with int32 results, which is what TFLite indexes with."""

    def __init__(self, nms: Nms) -> None:
        super().__init__()
        self.nms = nms

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        kept, counts = self.nms(boxes, scores)
        return kept.int(), counts.int()


TARGETS: dict[str, Callable[[], Lowered]] = {
    "onnx": lower_onnx,
    "onnx-static": lambda: lower_onnx(static=True),
    "openvino": lower_openvino,
    "tflite": lower_tflite,
}
"""Name of a lowering -> function that prepares it."""


def live(kept: Array, counts: Array) -> list[list[int]]:
    """Convert padded rows to lists."""
    return [rows[: int(count)].tolist() for rows, count in zip(kept, counts, strict=True)]


def name_maps(maps: list[Array]) -> dict[str, Array]:
    return {f"p{i}": features for i, features in enumerate(maps)}


def expected_nms(boxes: Array, scores: Array) -> list[list[int]]:
    """The output of torchvision's greedy NMS."""
    rows = np.flatnonzero(scores > 0)
    alive, ranks = torch.from_numpy(boxes[rows]), torch.arange(len(rows), 0, -1).float()
    return [rows[ops.nms(alive, ranks, threshold)[:LIMIT].numpy()].tolist() for threshold in THRESHOLDS]


def expected_roi_align(boxes: Array, maps: list[Array]) -> Array:
    """The output of torchvision's MultiScaleRoIAlign."""
    names = [str(i) for i in range(len(maps))]
    pool = ops.MultiScaleRoIAlign(names, SIZE, RATIO, canonical_scale=CANONICAL_SCALE, canonical_level=4)
    features = {n: torch.from_numpy(m).permute(0, 3, 1, 2) for n, m in zip(names, maps, strict=True)}
    return pool(features, [torch.from_numpy(boxes)], [IMAGE_HW]).numpy()


def crowded(rng: np.random.Generator) -> Array:
    """Boxes around a few centres."""
    centers = rng.uniform(20, 80, (rng.integers(1, 7), 2))
    center = centers[rng.integers(0, len(centers), BOXES)] + rng.normal(0, 3, (BOXES, 2))
    half = rng.uniform(5, 15, (BOXES, 2))
    return np.concatenate([center - half, center + half], axis=1)


def on_grid(rng: np.random.Generator) -> Array:
    """Small integer boxes: many equal ones, and IoUs of exactly 1/2 and 3/5."""
    low = rng.integers(0, 4, (BOXES, 2))
    return np.concatenate([low, low + rng.integers(1, 6, (BOXES, 2))], axis=1)


def scattered(rng: np.random.Generator) -> Array:
    """Boxes of all sizes, thin ones among them."""
    low = rng.uniform(0, 300, (BOXES, 2))
    return np.concatenate([low, low + rng.uniform(0.01, 60, (BOXES, 2))], axis=1)


def duplicated(rng: np.random.Generator) -> Array:
    """Each box several times."""
    return scattered(rng)[rng.integers(0, BOXES // 4, BOXES)]


def degenerate(rng: np.random.Generator) -> Array:
    """Boxes without area, or nearly."""
    low = rng.uniform(0, 20, (BOXES, 2))
    sides = np.exp(rng.uniform(np.log(1e-4), np.log(20), (BOXES, 2))) * (rng.random((BOXES, 2)) > 0.2)
    return np.concatenate([low, low + sides], axis=1)


def chained(rng: np.random.Generator) -> Array:
    """Boxes along a line, each overlapping the next, in any order."""
    x = rng.permutation(BOXES) * rng.uniform(1, 4)
    return np.stack([x, np.zeros(BOXES), x + 10, np.full(BOXES, 10)], axis=1)


BOX_SETS: dict[str, Callable[[np.random.Generator], Array]] = {
    f.__name__: f for f in (crowded, on_grid, scattered, duplicated, degenerate, chained)
}


def box_set(make: Callable[[np.random.Generator], Array], seed: int) -> tuple[Array, Array]:
    """Boxes (BOXES, 4) and descending scores (BOXES,), tied, the last ones dead; at times all of them."""
    rng = np.random.default_rng(seed)
    boxes = make(rng).astype(np.float32)
    scores = np.sort(rng.integers(0, 9, BOXES))[::-1].astype(np.float32) / 8
    scores[rng.integers(0, BOXES + 1) :] = 0
    return boxes, scores * is_larger(torch.from_numpy(boxes), SMALLEST_PROPOSAL_PX).numpy()


def anywhere(rng: np.random.Generator) -> Array:
    low = rng.uniform(0, 1, (ROIS, 2)) * IMAGE_HW[::-1]
    return np.concatenate([low, np.minimum(low + rng.uniform(1, 120, (ROIS, 2)), IMAGE_HW[::-1])], axis=1)


def tiny(rng: np.random.Generator) -> Array:
    low = rng.uniform(0, 1, (ROIS, 2)) * IMAGE_HW[::-1]
    return np.concatenate([low, np.minimum(low + rng.uniform(0, 0.5, (ROIS, 2)), IMAGE_HW[::-1])], axis=1)


def at_the_border(rng: np.random.Generator) -> Array:
    """Boxes clipped to the image, as all proposals are; some less than a cell of their level wide or high."""
    center = rng.integers(0, 2, (ROIS, 2)) * IMAGE_HW[::-1]
    half = np.exp(rng.uniform(np.log(0.1), np.log(150), (ROIS, 2)))
    return np.clip(np.concatenate([center - half, center + half], axis=1), 0, [*IMAGE_HW[::-1]] * 2)


def whole_cells(rng: np.random.Generator) -> Array:
    """Boxes whose samples fall on the middles and edges of cells."""
    low = rng.integers(0, 10, (ROIS, 2)) * 8
    return np.concatenate([low, low + 8 * rng.integers(1, 8, (ROIS, 2))], axis=1)


ROI_SETS: dict[str, Callable[[np.random.Generator], Array]] = {
    f.__name__: f for f in (anywhere, tiny, at_the_border, whole_cells)
}


def roi_set(make: Callable[[np.random.Generator], Array], seed: int) -> tuple[Array, list[Array]]:
    """Boxes (ROIS, 4) and maps of noise."""
    rng = np.random.default_rng(seed)
    maps = [rng.normal(size=(1, *size, CHANNELS)).astype(np.float32) for size in map_sizes()]
    return make(rng).astype(np.float32), maps


def compare_nms(lowered: Lowered, make: Callable[[np.random.Generator], Array], sets: int) -> Array:
    """(T,) how many of the sets were kept as torchvision keeps them, at each threshold."""
    equal = np.zeros(len(THRESHOLDS), dtype=int)
    for seed in range(sets):
        boxes, scores = box_set(make, seed)
        equal += [a == b for a, b in zip(lowered.nms(boxes, scores), expected_nms(boxes, scores), strict=True)]
    return equal


def compare_roi_align(lowered: Lowered, make: Callable[[np.random.Generator], Array], sets: int) -> float:
    """The largest difference from torchvision's pooling of maps of unit variance."""
    return max(_difference(lowered, *roi_set(make, seed)) for seed in range(sets))


def _difference(lowered: Lowered, boxes: Array, maps: list[Array]) -> float:
    return float(np.abs(lowered.roi_align(boxes, maps) - expected_roi_align(boxes, maps)).max())


@click.command()
@click.option("--sets", default=10_000, show_default=True, help="Box sets, of all kinds together.")
@click.option("--targets", default=",".join(TARGETS), show_default=True)
@click.pass_context
def check(context: click.Context, sets: int, targets: str) -> None:
    """Print how each target's operators compare with torchvision's."""
    torch.set_num_threads(1)
    chosen = targets.split(",")
    lowered = {name: TARGETS[name]() for name in chosen}
    good = all([*report_nms(lowered, sets), *report_roi_align(lowered, sets)])
    context.exit(0 if good else 3)


def report_nms(lowered: dict[str, Lowered], sets: int) -> Iterator[bool]:
    """Print a table of the share of equal sets, and whether each target reaches the limit at every threshold."""
    each = -(-sets // len(BOX_SETS))
    click.echo("| NMS | IoU | " + " | ".join(BOX_SETS).replace("_", " ") + " | all |")
    click.echo("|---|---|" + "---|" * (len(BOX_SETS) + 1))
    for name, target in lowered.items():
        equal = np.array([compare_nms(target, make, each) for make in BOX_SETS.values()])
        for index, threshold in enumerate(THRESHOLDS):
            column, total = equal[:, index], each * len(BOX_SETS)
            cells = " | ".join(f"{count}/{each}" for count in column)
            click.echo(f"| {name} | {threshold} | {cells} | {column.sum()}/{total} |")
            yield bool(column.sum() >= REQUIRED_SHARE * total)


def report_roi_align(lowered: dict[str, Lowered], sets: int) -> Iterator[bool]:
    """Print a table of the largest differences, and whether each target reaches the limit."""
    each = max(1, sets // 10 // len(ROI_SETS))
    click.echo(f"\n| RoIAlign, {each} sets of {ROIS} boxes each | " + " | ".join(ROI_SETS).replace("_", " ") + " |")
    click.echo("|---|" + "---|" * len(ROI_SETS))
    for name, target in lowered.items():
        worst = [compare_roi_align(target, make, each) for make in ROI_SETS.values()]
        click.echo(f"| {name} | " + " | ".join(f"{value:.1e}" for value in worst) + " |")
        yield max(worst) < REQUIRED_DIFFERENCE


if __name__ == "__main__":
    check()

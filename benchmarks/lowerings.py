"""Time the alternatives to each lowering that `export` uses: the default must be the fastest that is exact.

    python benchmarks/lowerings.py [--targets onnx,openvino,tflite] [--rounds 30] [--imgsz 320]

NMS of 600 boxes to 100 and RoIAlign of 100 boxes to 7 x 7 from a pyramid with 96 channels and strides 8, 16 and 32, on
one thread. All alternatives of a target take turns; the median CPU time counts. "equal" says how many of 40
crowded box sets are kept as torchvision keeps them, or the largest difference from its RoIAlign. Prints Markdown.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torchvision import ops

from benchmarks import operator_exactness as exactness
from edge_mrcnn.export import operators

Array = np.ndarray
Inputs = dict[str, Array]
Run = Callable[[Inputs], list[Array]]

BOXES, LIMIT, IOU = 600, 100, 0.7
ROIS, SIZE, RATIO, CHANNELS = 100, 7, 2, 96
STRIDES, CANONICAL_SCALE = (8, 16, 32), 90
LINKS = 16
"""Repetitions of the fixed-point NMS: the longest chain of overlaps that it resolves."""
TRIALS = 40


class BuiltinNms(nn.Module):
    """The default: the target's own NMS operator, through its lowering."""

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        kept, count = operators.nms(boxes, scores, IOU, LIMIT)
        return kept.int(), count.int()


class MatrixNms(nn.Module):
    """NMS by repeated matrix products: a box is kept if no kept box before it overlaps it."""

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.arange(BOXES)
        earlier = (order[:, None] < order[None]).float()
        suppresses = (pairwise_iou(boxes) > IOU).float() * earlier
        alive = (scores > 0).float()[None]
        kept = alive
        for _ in range(LINKS):
            kept = alive * torch.relu(1 - kept @ suppresses)
        ranks, rows = (kept[0] * (BOXES - order).float()).topk(LIMIT)
        return rows.int(), (ranks > 0).int().sum()


def pairwise_iou(boxes: Tensor) -> Tensor:
    """(N, 4) to (N, N)."""
    x0, y0, x1, y1 = (boxes[:, i : i + 1] for i in range(4))
    width = torch.relu(torch.minimum(x1, x1.T) - torch.maximum(x0, x0.T))
    height = torch.relu(torch.minimum(y1, y1.T) - torch.maximum(y0, y0.T))
    area, shared = (x1 - x0) * (y1 - y0), width * height
    return shared / (area + area.T - shared).clamp(min=1e-9)


class JoinedRoiAlign(nn.Module):
    """The default: `edge_mrcnn::multiscale_roi_align` through the target's lowering."""

    def forward(self, boxes: Tensor, p0: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        maps = [features.permute(0, 3, 1, 2) for features in (p0, p1, p2)]
        scales = [1 / stride for stride in STRIDES]
        pooled: Tensor = operators.multiscale_roi_align(maps, boxes, scales, bounds(), SIZE, RATIO)
        return pooled


class PerLevelRoiAlign(nn.Module):
    """All boxes pooled from every level, and the wrong ones multiplied by 0."""

    def forward(self, boxes: Tensor, p0: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        levels = operators.box_levels(boxes, bounds())
        rows = torch.cat([torch.zeros(ROIS, 1), boxes], 1)
        pooled = torch.zeros(ROIS, CHANNELS, SIZE, SIZE)
        for level, (features, stride) in enumerate(zip((p0, p1, p2), STRIDES, strict=True)):
            of_level = ops.roi_align(features.permute(0, 3, 1, 2), rows, SIZE, 1 / stride, RATIO)
            pooled = pooled + of_level * (levels == level).float()[:, None, None, None]
        return pooled


class ScatteredRoiAlign(nn.Module):
    """As torchvision does it: the boxes of each level chosen, pooled and scattered back."""

    def forward(self, boxes: Tensor, p0: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        levels = operators.box_levels(boxes, bounds())
        rows = torch.cat([torch.zeros(ROIS, 1), boxes], 1)
        pooled = torch.zeros(ROIS, CHANNELS, SIZE, SIZE)
        for level, (features, stride) in enumerate(zip((p0, p1, p2), STRIDES, strict=True)):
            chosen = torch.nonzero(levels == level)[:, 0]
            of_level = ops.roi_align(features.permute(0, 3, 1, 2), rows[chosen], SIZE, 1 / stride, RATIO)
            pooled = torch.index_put(pooled, (chosen,), of_level)
        return pooled


class GatheredRoiAlign(nn.Module):
    """The four corners of every sample gathered from one table of all cells."""

    def forward(self, boxes: Tensor, p0: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        sides = [features.shape[1] for features in (p0, p1, p2)]
        table = torch.cat([features.reshape(-1, CHANNELS) for features in (p0, p1, p2)])
        levels = operators.box_levels(boxes, bounds())
        side = choose(levels, [float(s) for s in sides])
        first = choose(levels, [0.0, float(sides[0] ** 2), float(sides[0] ** 2 + sides[1] ** 2)])
        scaled = boxes * choose(levels, [1 / s for s in STRIDES])[:, None]
        x = corners(scaled[:, 0], scaled[:, 2], side)
        y = corners(scaled[:, 1], scaled[:, 3], side)
        total = torch.zeros(ROIS, SIZE * RATIO, SIZE * RATIO, CHANNELS)
        for row, row_weight in y:
            for column, column_weight in x:
                cell = first[:, None, None] + row[:, :, None] * side[:, None, None] + column[:, None, :]
                values = torch.index_select(table, 0, cell.reshape(-1).long())
                weight = row_weight[:, :, None, None] * column_weight[:, None, :, None]
                total = total + values.reshape(ROIS, SIZE * RATIO, SIZE * RATIO, CHANNELS) * weight
        return total.reshape(ROIS, SIZE, RATIO, SIZE, RATIO, CHANNELS).mean((2, 4)).permute(0, 3, 1, 2)


class SeparableRoiAlign(nn.Module):
    """Every level pooled by (weights of rows) x map x (weights of columns), and the wrong levels multiplied by 0.

    The smaller operand of each product is the one on the right, which XNNPACK repacks on each run.
    """

    def forward(self, boxes: Tensor, p0: Tensor, p1: Tensor, p2: Tensor) -> Tensor:
        levels = operators.box_levels(boxes, bounds())
        pooled = torch.zeros(ROIS, CHANNELS, SIZE, SIZE)
        for level, (features, stride) in enumerate(zip((p0, p1, p2), STRIDES, strict=True)):
            side, scaled = features.shape[1], boxes / stride
            rows = interpolation(scaled[:, 1], scaled[:, 3], side) * (levels == level).float()[:, None, None]
            columns = interpolation(scaled[:, 0], scaled[:, 2], side)
            lines = rows.reshape(-1, side) @ features.permute(0, 1, 3, 2).reshape(side, CHANNELS * side)
            bins = torch.bmm(lines.reshape(ROIS, SIZE * CHANNELS, side), columns.transpose(1, 2))
            pooled = pooled + bins.reshape(ROIS, SIZE, CHANNELS, SIZE).permute(0, 2, 1, 3)
        return pooled


def interpolation(start: Tensor, end: Tensor, side: int) -> Tensor:
    """(K, SIZE, side) what each cell of an axis gives to each bin."""
    length = (end - start).clamp(min=1.0)[:, None] / SIZE
    at = start[:, None] + length * ((torch.arange(SIZE * RATIO) + 0.5) / RATIO)
    inside = (at <= side).float()[..., None]
    weights = torch.relu(1 - (at.clamp(0, side - 1)[..., None] - torch.arange(side)).abs()) * inside
    return weights.reshape(ROIS, SIZE, RATIO, side).mean(2)


def choose(levels: Tensor, values: list[float]) -> Tensor:
    """(K,) one value for each box by its level."""
    return torch.index_select(torch.tensor(values), 0, levels)


def corners(start: Tensor, end: Tensor, side: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For the lower and the upper cell of each sample along an axis, its index and weight, (K, SIZE * RATIO) each."""
    length = (end - start).clamp(min=1.0)[:, None] / SIZE
    at = start[:, None] + length * ((torch.arange(SIZE * RATIO) + 0.5) / RATIO)
    inside = (at <= side[:, None]).float()
    limit = side[:, None] - 1
    at = torch.minimum(at.clamp(min=0.0), limit)
    low = torch.floor(at)
    high = torch.minimum(low + 1, limit)
    return [(low, (1 - (at - low)) * inside), (high, (at - low) * inside)]


def bounds() -> list[float]:
    return operators.level_bounds(len(STRIDES), 3, CANONICAL_SCALE, 4)


Modules = dict[str, Callable[[], nn.Module]]
NMS: dict[str, Modules] = {
    "onnx": {"NonMaxSuppression (default)": BuiltinNms, "fixed-point matrix NMS": MatrixNms},
    "openvino": {"NonMaxSuppression (default)": BuiltinNms, "fixed-point matrix NMS": MatrixNms},
    "tflite": {"NON_MAX_SUPPRESSION_V4 (default)": BuiltinNms, "fixed-point matrix NMS": MatrixNms},
}
_ONE_AGAINST_MANY: Modules = {
    "one RoiAlign, levels as a batch (default)": JoinedRoiAlign,
    "RoiAlign per level, masked and added": PerLevelRoiAlign,
    "RoiAlign per level, scattered": ScatteredRoiAlign,
    "a gather per corner": GatheredRoiAlign,
}
ROI_ALIGN: dict[str, Modules] = {
    "onnx": _ONE_AGAINST_MANY,
    "openvino": _ONE_AGAINST_MANY,
    "tflite": {
        "a gather per tap (default)": JoinedRoiAlign,
        "a gather per corner": GatheredRoiAlign,
        "separable matrix products": SeparableRoiAlign,
    },
}


def nms_inputs(seed: int) -> Inputs:
    """Boxes around 30 centres, sorted, a tenth of them dead."""
    rng = np.random.default_rng(seed)
    center = rng.uniform(20, 300, (30, 2))[rng.integers(0, 30, BOXES)] + rng.normal(0, 6, (BOXES, 2))
    half = rng.uniform(5, 40, (BOXES, 2))
    scores = np.sort(rng.random(BOXES))[::-1].astype(np.float32)
    scores[-BOXES // 10 :] = 0
    return {"boxes": np.concatenate([center - half, center + half], 1).astype(np.float32), "scores": scores}


def roi_inputs(seed: int, image: int) -> Inputs:
    """Boxes of all sizes and maps of noise, channels last."""
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 0.8 * image, (ROIS, 2))
    high = np.minimum(low + np.exp(rng.uniform(2, 5.5, (ROIS, 2))), image)
    maps = {f"p{i}": rng.normal(size=(1, image // s, image // s, CHANNELS)).astype(np.float32)
            for i, s in enumerate(STRIDES)}  # fmt: skip
    return {"boxes": np.concatenate([low, high], 1).astype(np.float32), **maps}


def compile_onnx(module: nn.Module, inputs: Inputs) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    model = exactness.to_onnx(module, tensors, output_names(module), False)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda feed: session.run(None, feed)


def compile_openvino(module: nn.Module, inputs: Inputs) -> Run:
    from edge_mrcnn.export.openvino_target import simplified
    from runtimes.openvino_backend import shared_core

    tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
    model = simplified(exactness.to_onnx(module, tensors, output_names(module), False))
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = shared_core().compile_model(model, "CPU", config).create_infer_request()
    return lambda feed: [np.array(value) for value in request.infer(feed).to_tuple()]


def compile_tflite(module: nn.Module, inputs: Inputs) -> Run:
    os.environ["LITERT_TORCH_SHOW_PROGRESS"] = "n"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's dependencies print many warnings
        import litert_torch
        from ai_edge_litert.interpreter import Interpreter

        from edge_mrcnn.export.lowering import tflite_ops

        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with tflite_ops.lowered_operators():
            content = litert_torch.convert(module.eval(), sample_kwargs=tensors).model_content()
    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner()
    return lambda feed: list(runner(**feed).values())


COMPILERS: dict[str, Callable[[nn.Module, Inputs], Run]] = {
    "onnx": compile_onnx,
    "openvino": compile_openvino,
    "tflite": compile_tflite,
}


def output_names(module: nn.Module) -> list[str]:
    return ["kept", "count"] if isinstance(module, BuiltinNms | MatrixNms) else ["pooled"]


def judge_nms(run: Run) -> str:
    """How many of the sets are kept as torchvision keeps them."""
    return f"{sum(_keeps_right(run, nms_inputs(seed)) for seed in range(TRIALS))}/{TRIALS}"


def _keeps_right(run: Run, feed: Inputs) -> bool:
    kept, count = run(feed)
    rows = np.flatnonzero(feed["scores"] > 0)
    ranks = torch.arange(len(rows), 0, -1).float()
    expected = rows[ops.nms(torch.from_numpy(feed["boxes"][rows]), ranks, IOU)[:LIMIT].numpy()]
    return kept[: int(count)].tolist() == expected.tolist()


def judge_roi_align(run: Run, image: int) -> str:
    """The largest difference from torchvision's."""
    feed = roi_inputs(1, image)
    pool = ops.MultiScaleRoIAlign(["p0", "p1", "p2"], SIZE, RATIO, canonical_scale=CANONICAL_SCALE, canonical_level=4)
    maps = {name: torch.from_numpy(feed[name]).permute(0, 3, 1, 2) for name in ("p0", "p1", "p2")}
    expected = pool(maps, [torch.from_numpy(feed["boxes"])], [(image, image)]).numpy()
    return f"{np.abs(run(feed)[0] - expected).max():.0e}"


def time_all(runs: list[Run], feed: Inputs, rounds: int) -> list[float]:
    """Median CPU milliseconds of each function, called in turn; other work on the machine is not counted."""
    times: list[list[float]] = [[] for _ in runs]
    for round_ in range(rounds + 3):
        for run, taken in zip(runs, times, strict=True):
            start = time.process_time()
            run(feed)
            if round_ >= 3:
                taken.append(1e3 * (time.process_time() - start))
    return [statistics.median(taken) for taken in times]


def rows_of(
    title: str, modules: Modules, compile_: Any, feed: Inputs, judge: Callable[[Run], str], rounds: int
) -> Iterator[str]:
    """The rows of one operator on one target."""
    runs, failures = {}, {}
    for name, module in modules.items():
        try:
            runs[name] = compile_(module(), feed)
        except Exception as error:  # that a converter cannot express the module is a result too
            failures[name] = type(error).__name__
    times = time_all(list(runs.values()), feed, rounds)
    for (name, run), ms in zip(runs.items(), times, strict=True):
        yield f"| {title} | {name} | {ms:.2f} | {ms / times[0]:.2f} | {judge(run)} |"
    for name, failure in failures.items():
        yield f"| {title} | {name} | – | – | does not convert ({failure}) |"


@click.command()
@click.option("--targets", default=",".join(COMPILERS), show_default=True)
@click.option("--rounds", default=30, show_default=True)
@click.option("--imgsz", default=320, show_default=True, help="Side of the image that the pyramid is of.")
def measure(targets: str, rounds: int, imgsz: int) -> None:
    """Print a table of all lowerings."""
    torch.set_num_threads(1)
    click.echo("| operator | lowering | ms | times the default | equal to torchvision |")
    click.echo("|---|---|---:|---:|---:|")
    for target in targets.split(","):
        for line in rows_of(f"NMS, {target}", NMS[target], COMPILERS[target], nms_inputs(0), judge_nms, rounds):
            click.echo(line)
        roi, judge = ROI_ALIGN[target], partial(judge_roi_align, image=imgsz)
        for line in rows_of(f"RoIAlign, {target}", roi, COMPILERS[target], roi_inputs(0, imgsz), judge, rounds):
            click.echo(line)


if __name__ == "__main__":
    measure()

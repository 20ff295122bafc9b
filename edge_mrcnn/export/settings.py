"""Settings of an export, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edge_mrcnn.export import TARGETS
from edge_mrcnn.settings import Flag, Range, check
from runtimes.errors import UsageError

OTHER_NAMES = {"litert": "tflite", "ov": "openvino"}
"""Another tool's name of a format -> ours."""
TENSORRT = ("engine", "tensorrt", "trt")
"""Names that other tools use for a TensorRT engine, which only works on one GPU with one version of TensorRT."""

OPSETS = range(18, 22)
"""Supported ONNX opsets: the graph is built in opset 18, and ONNX Runtime has no RoiAlign of opset 22."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to write, and what to change in the graph."""

    targets: Annotated[tuple[str, ...], Flag("--target")] = tuple(TARGETS)
    """Formats to write, separated by commas."""
    int8: bool = False
    """Also write an INT8 file for each FP32 file."""
    proposals: Annotated[int | None, Range(1)] = None
    """P: region proposals given to the box head, if not the checkpoint's value."""
    max_detections: Annotated[int | None, Range(1), Flag("--max-det")] = None
    """D: maximum number of detections per image, if not the checkpoint's value."""
    score_threshold: Annotated[float | None, Range(0, 1, without_most=True), Flag("--conf")] = None
    """Score threshold, if not the checkpoint's value."""
    iou_threshold: Annotated[float | None, Range(0, 1, without_least=True), Flag("--iou")] = None
    """IoU threshold of the class-wise NMS, if not the checkpoint's value."""
    image_size_hw: Annotated[tuple[int, int] | None, Flag("--imgsz")] = None
    """Input size in pixels, S or HxW, if not the checkpoint's."""
    roi_samples: Annotated[int | None, Range(0)] = None
    """RoIAlign samples per bin and axis, if not the checkpoint's value."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, if not the checkpoint's."""
    category_ids: tuple[int, ...] | None = None
    """Category ids of `classes` in the data set."""
    batch: Annotated[int, Range(1)] = 1
    """N: images per inference; ONNX and OpenVINO only."""
    static: bool = False
    """Write a graph with fixed shapes, always D rows per image, for TensorRT and NPUs; ONNX and OpenVINO only."""
    opset: Annotated[int, Range(OPSETS[0], OPSETS[-1])] = OPSETS[0]
    """Opset of the ONNX file."""
    fp16: bool = False
    """Also write an FP16 file for each FP32 file, with the learned layers in half precision."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(OTHER_NAMES.get(name, name) for name in self.targets))
        if set(self.targets) & set(TENSORRT):
            raise UsageError(
                "--target engine: TensorRT builds its engine on the device itself. Export with --target onnx "
                "--static here, then use `run --device tensorrt` there"
            )
        unknown = set(self.targets) - set(TARGETS)
        if unknown or not self.targets:
            raise UsageError(f"target {', '.join(sorted(unknown)) or 'missing'}: expected {', '.join(TARGETS)}")
        check(self)
        single = [name for name in self.targets if TARGETS[name].is_static]
        if self.batch > 1 and single:
            others = ",".join(name for name in TARGETS if not TARGETS[name].is_static)
            raise UsageError(f"target {single[0]} takes one image at a time: choose --target {others} for a batch")

    @property
    def variant(self) -> str:
        """Suffix of the file name that tells the graph's fixed shapes and batch."""
        return "-static" * self.static + f"-b{self.batch}" * (self.batch > 1)

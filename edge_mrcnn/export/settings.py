"""Settings of an export, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from edge_mrcnn.export import TARGETS
from edge_mrcnn.settings import Flag, Range, check
from runtimes.errors import UsageError

OTHER_NAMES = {"litert": "tflite", "ov": "openvino"}
"""Format by another tool's name -> by ours."""
TENSORRT = ("engine", "tensorrt", "trt")
"""What other tools call an engine, which belongs to one GPU and one version of TensorRT."""

OPSETS = range(18, 22)
"""ONNX opsets that can be asked for: the graph is written in 18, and ONNX Runtime has no RoiAlign of 22."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What to write, and what to change in the graph."""

    targets: Annotated[tuple[str, ...], Flag("--target")] = tuple(TARGETS)
    """Formats to write, separated by commas."""
    int8: bool = False
    """Write an INT8 file beside each FP32 file."""
    proposals: Annotated[int | None, Range(1)] = None
    """P, proposals that reach the box head, if not the checkpoint's own."""
    max_detections: Annotated[int | None, Range(1), Flag("--max-det")] = None
    """D, detections at most, if not the checkpoint's own."""
    score_threshold: Annotated[float | None, Range(0, 1, without_most=True), Flag("--conf")] = None
    """Lowest score that the file produces, if not the checkpoint's own."""
    iou_threshold: Annotated[float | None, Range(0, 1, without_least=True), Flag("--iou")] = None
    """IoU of the class-wise NMS, if not the checkpoint's own."""
    image_size_hw: Annotated[tuple[int, int] | None, Flag("--imgsz")] = None
    """Input size, S or HxW, if not the checkpoint's own."""
    roi_samples: Annotated[int | None, Range(0)] = None
    """Samples per bin and axis of RoIAlign, if not the checkpoint's own."""
    classes: tuple[str, ...] | None = None
    """Names of the classes, if not the checkpoint's own."""
    category_ids: tuple[int, ...] | None = None
    """The data set's own ids of `classes`."""
    batch: Annotated[int, Range(1)] = 1
    """N, images that one run takes; not TFLite."""
    static: bool = False
    """D rows for each image and no shape that depends on the data, for TensorRT and NPUs; ONNX and OpenVINO."""
    opset: Annotated[int, Range(OPSETS[0], OPSETS[-1])] = OPSETS[0]
    """Opset of the ONNX file, of those that ONNX Runtime runs."""
    fp16: bool = False
    """Write a file with learned layers in half precision beside each FP32 file."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", tuple(OTHER_NAMES.get(name, name) for name in self.targets))
        if set(self.targets) & set(TENSORRT):
            raise UsageError(
                "target engine: TensorRT builds its engine on the board, from an ONNX file: --target onnx --static "
                "here, then `run --device tensorrt` there"
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
        """What is put behind a file's name so that it tells the contract."""
        return "-static" * self.static + f"-b{self.batch}" * (self.batch > 1)

"""torchvision's own Mask R-CNN, on MobileNetV3-Large with default heads, exported as torchvision's documentation does:
1000 proposals, up to 100 masks, pasted over the whole input inside the graph. FP32, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.ours import THRESHOLD, calibrate_norms, set_threshold
from benchmarks.peers.scene import CLASSES, SIZE_HW, draw_frame
from benchmarks.peers.yolo import open_session
from runtimes.formats import FORMATS

NAME = "torchvision"
ANCHOR_SIDES = ((32, 64, 128, 256, 512),) * 3
"""Of torchvision's detectors on MobileNetV3."""


def file_of(folder: Path, name: str, size: int, runtime: str, precision: str) -> Path:
    """The path of a file."""
    return folder / f"{name}-{size}{FORMATS[runtime].suffix}"


def is_possible(runtime: str, precision: str) -> bool:
    """ONNX or OpenVINO in FP32 only: TFLite cannot convert this graph, and torchvision offers no INT8 file."""
    return runtime != "tflite" and precision == "fp32"


def make_files(folder: Path, name: str, size: int, targets: Sequence[str]) -> None:
    """Export it with random weights; existing files are kept."""
    plain = file_of(folder, name, size, "onnx", "fp32")
    if not plain.is_file():
        _export(plain, size)
    converted = file_of(folder, name, size, "openvino", "fp32")
    if "openvino" in targets and not converted.is_file():
        import openvino

        openvino.save_model(openvino.convert_model(plain), converted, compress_to_fp16=False)


def _export(file: Path, size: int) -> None:
    import torch

    file.parent.mkdir(parents=True, exist_ok=True)
    image = torch.from_numpy(prepare_frame(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about branches that torchvision wrote for it
        # OpenVINO refuses the loop that pastes masks where the image has a fixed size.
        torch.onnx.export(build_model(size), ([image],), str(file), opset_version=17, dynamo=False,
                          input_names=["image"], dynamic_axes={"image": {1: "height", 2: "width"}})  # fmt: skip


def build_model(size: int) -> Any:
    """The model with random weights whose scores differ."""
    import torch
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import mobilenet_backbone

    torch.manual_seed(0)
    backbone = mobilenet_backbone(backbone_name="mobilenet_v3_large", weights=None, fpn=True, trainable_layers=6,
                                  norm_layer=torch.nn.BatchNorm2d)  # fmt: skip
    anchors = AnchorGenerator(ANCHOR_SIDES, ((0.5, 1.0, 2.0),) * len(ANCHOR_SIDES))
    model = MaskRCNN(backbone, len(CLASSES) + 1, rpn_anchor_generator=anchors, min_size=size, max_size=size,
                     box_score_thresh=THRESHOLD)  # fmt: skip
    calibrate_norms(model, [torch.from_numpy(prepare_frame(size, seed)) for seed in range(4)])
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.3)
    return model.eval()


def prepare_frame(size: int, seed: int = 0) -> NDArray[np.float32]:
    """(3, h, w) in [0, 1], the longer side of `size` pixels."""
    scale = size / max(SIZE_HW)
    small = cv2.resize(draw_frame(seed), None, fx=scale, fy=scale)
    return np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1), dtype=np.float32) / 255


def open_network(file: Path, size: int, count: int, threads: int) -> Callable[[], Any]:
    """A function that runs it on a frame in which it finds this number of objects."""
    image = prepare_frame(size)
    with TemporaryDirectory() as folder:
        run = open_session(set_threshold(file, find_threshold(file, image, count), Path(folder)), threads)
    return lambda: run(image)


def find_threshold(file: Path, image: NDArray[np.float32], count: int) -> float:
    """A threshold that `count` of its scores pass."""
    if count == 0:
        return 2.0
    outputs = map(np.asarray, open_session(file, 1)(image))
    scores = np.sort(next(o for o in outputs if o.ndim == 1 and o.dtype == np.float32))[::-1]
    assert len(scores) > count, f"{file}: has fewer than {count} detections in the frame"
    return float(scores[count - 1] + scores[count]) / 2

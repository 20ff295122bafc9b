"""The one-stage side: nano models of the `ultralytics` package, exported and quantized by that package's own commands,
with its own pre- and post-processing, drawing and JSON (NumPy, OpenCV and torch), as its predictor calls them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.ours import write_frames
from benchmarks.peers.scene import CLASSES, SIZE_HW, Objects, draw_disc, draw_frame
from benchmarks.peers.timing import Clock, Stages
from runtimes.formats import format_of

FORMATS = {"onnx": "onnx", "openvino": "openvino", "tflite": "litert"}
"""Our name of a runtime -> theirs of a format."""
CANDIDATES = 10
"""Number of anchors that detect each object and pass the confidence threshold."""
CONF, IOU = 0.25, 0.7
"""The defaults of their predictor."""


def file_of(folder: Path, name: str, size: int, runtime: str, precision: str) -> Path:
    """The path of the package's file."""
    int8 = "_int8" * (precision == "int8")
    if runtime == "openvino":
        return folder / f"{name}-{size}{int8}_openvino_model" / f"{name}-{size}.xml"
    return folder / f"{name}-{size}{int8}.{'onnx' if runtime == 'onnx' else 'tflite'}"


def make_files(folder: Path, name: str, size: int, targets: Sequence[str]) -> None:
    """Export a model from its yaml, with random weights, in FP32 and INT8; existing files are kept."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    for target in targets:
        for precision in ("int8", "fp32"):  # in this order: their INT8 export deletes the FP32 file
            if not file_of(folder, name, size, target, precision).is_file():
                _export(folder, name, size, FORMATS[target], 8 if precision == "int8" else None)


def _export(folder: Path, name: str, size: int, form: str, quantize: int | None) -> None:
    import torch
    from ultralytics import YOLO

    torch.manual_seed(0)
    model = YOLO(f"{name}.yaml")
    model.model.pt_path = str(folder.resolve() / f"{name}-{size}.pt")  # ultralytics names the exported files after it
    options = {"opset": 18} if form == "onnx" else {}
    model.export(format=form, imgsz=size, quantize=quantize, data=str(_write_data(folder)), batch=1, device="cpu",
                 verbose=False, **options)  # fmt: skip


def _write_data(folder: Path) -> Path:
    """Our calibration pictures in the package's data set format."""
    root = (folder / "yolo").resolve()
    file = root / "data.yaml"
    if not file.is_file():
        shutil.copytree(write_frames(folder / "frames"), root / "images", dirs_exist_ok=True)
        names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
        file.write_text(f"path: {root}\ntrain: images\nval: images\nnames:\n{names}")
    return file


class Yolo:
    """One of their files. The network runs; its output is replaced by one in which exactly K objects are found."""

    def __init__(self, file: Path, size: int, objects: Objects, threads: int, clock: Clock) -> None:
        from ultralytics.data.augment import LetterBox

        self.file, self.objects, self._clock = file, objects, clock
        self._run = open_session(file, threads)
        self._frame = draw_frame()
        self._letterbox = LetterBox((size, size), auto=False, stride=32)
        self._answer = prescribe(objects, size)
        self._names = dict(enumerate(CLASSES))

    def process(self) -> Stages:
        """From a BGR frame to a drawn picture and JSON."""
        import torch
        from ultralytics.engine.results import Results
        from ultralytics.utils import nms, ops

        frame, begin = self._frame, self._clock()
        image = torch.from_numpy(self._letterbox(image=frame)).unsqueeze(0)  # BasePredictor.preprocess
        image = image.permute(0, 3, 1, 2).contiguous().flip(1).float().div_(255)
        start = self._clock()
        self._run(image.numpy())
        network = self._clock()
        predictions, prototypes = (torch.from_numpy(part) for part in self._answer)
        (rows,) = nms.non_max_suppression(predictions, CONF, IOU, None, False, max_det=300, nc=len(CLASSES))
        masks = None  # SegmentationPredictor.construct_result
        if len(rows):
            masks = ops.process_mask(prototypes[0], rows[:, 6:], rows[:, :4], image.shape[2:], upsample=True)
            rows[:, :4] = ops.scale_boxes(image.shape[2:], rows[:, :4], frame.shape)
            keep = masks.amax((-2, -1)) > 0
            if not keep.all():
                rows, masks = rows[keep], masks[keep]
        found = Results(frame, path="frame.jpg", names=self._names, boxes=rows[:, :6], masks=masks)
        results = self._clock()
        assert len(found) == len(self.objects), f"{self.file}: {len(found)} found instead of {len(self.objects)}"
        self.json = found.to_json()
        self.picture = found.plot()
        end = self._clock()
        return Stages(network=1e3 * (network - start), results=1e3 * (results - begin), finished=1e3 * (end - begin))


def prescribe(objects: Objects, size: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw outputs: predictions (1, 4 + classes + 32, A), of which `CANDIDATES` for each object pass the threshold, and
    prototypes (1, 32, size / 4, size / 4), one disc for each object."""
    anchors = sum((size // stride) ** 2 for stride in (8, 16, 32))
    scale = size / max(SIZE_HW)
    border = (size - np.round(np.array(SIZE_HW) * scale)) / 2
    boxes = objects.boxes_xyxy * scale + np.tile(border[::-1], 2)
    predictions = np.zeros((1, 4 + len(CLASSES) + 32, anchors), np.float32)
    prototypes = np.full((1, 32, size // 4, size // 4), -1, np.float32)
    columns = np.random.default_rng(0).permutation(anchors)[: CANDIDATES * len(objects)].reshape(-1, CANDIDATES)
    for index, (box, anchor) in enumerate(zip(boxes, columns, strict=True)):
        jitter = np.random.default_rng(index).uniform(-0.02, 0.02, (2, CANDIDATES)) * (box[2:] - box[:2])[:, None]
        predictions[0, 0:2, anchor] = ((box[:2] + box[2:])[:, None] / 2 + jitter).T
        predictions[0, 2:4, anchor] = box[2:] - box[:2]
        predictions[0, 4 + objects.labels[index], anchor] = objects.scores[index] - 0.01 * np.arange(CANDIDATES)
        predictions[0, 4 + len(CLASSES) + index, anchor] = 8
        x0, y0, x1, y1 = np.round(box / 4).astype(int)
        target = prototypes[0, index, max(y0, 0) : y1, max(x0, 0) : x1]
        target[:] = cv2.resize(draw_disc(28), target.shape[::-1]) - 0.5
    return predictions, prototypes


def open_session(file: Path, threads: int) -> Callable[[NDArray[np.float32]], Any]:
    """A function that runs a file of any runtime, with the options of our own runtimes."""
    return OPENERS[format_of(file).name](file, threads)


def _open_onnx(file: Path, threads: int) -> Callable[[NDArray[Any]], Any]:
    from runtimes.onnx_backend import make_session

    session = make_session(file, threads)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})


def _open_openvino(file: Path, threads: int) -> Callable[[NDArray[Any]], Any]:
    from runtimes.openvino_backend import compile_plainly

    request = compile_plainly(file, threads).create_infer_request()
    return lambda x: list(request.infer([x], share_inputs=True, share_outputs=True).values())


def _open_tflite(file: Path, threads: int) -> Callable[[NDArray[Any]], Any]:
    from runtimes.formats.tflite_format import strip_notes
    from runtimes.tflite_backend import make_interpreter

    interpreter = make_interpreter(strip_notes(file.read_bytes()), threads)
    interpreter.allocate_tensors()
    place = interpreter.get_input_details()[0]["index"]
    outputs = [output["index"] for output in interpreter.get_output_details()]

    def run(x: NDArray[Any]) -> list[NDArray[Any]]:
        interpreter.set_tensor(place, x)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


OPENERS = {"onnx": _open_onnx, "openvino": _open_openvino, "tflite": _open_tflite}
"""Format -> function that opens a file with the options of our own backends."""

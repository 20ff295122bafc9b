"""Our side: presets with random weights, their INT8 files, and a frame from BGR pixels to a picture and COCO JSON."""

from __future__ import annotations

import json
import pkgutil
import struct
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import runtimes
from benchmarks.peers.scene import CLASSES, Objects, draw_disc, draw_frame
from benchmarks.peers.timing import Clock, Stages
from runtimes.base import FakeRuntime, RawOutputs
from runtimes.preprocess import letterbox
from runtimes.seal import write_seal

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
THRESHOLD = 0.0503
"""Score threshold of the files: a number whose bytes occur in them as this threshold alone."""
CALIBRATION_IMAGES = 8
"""Enough for a time, not for an accuracy."""


def file_of(folder: Path, preset: str, size: int, runtime: str, precision: str) -> Path:
    """Where a file lies."""
    return folder / f"{preset}-{size}{'-int8' * (precision == 'int8')}{SUFFIXES[runtime]}"


def make_files(folder: Path, preset: str, size: int, targets: Sequence[str]) -> None:
    """Export a preset with random weights for each target, in FP32 and INT8; files that are there are kept."""
    missing = [t for t in targets if not file_of(folder, preset, size, t, "int8").is_file()]
    if not missing:
        return
    import quantize
    from edge_mrcnn.export import TARGETS
    from edge_mrcnn.export.graph import DeployGraph
    from edge_mrcnn.reference import TorchRuntime

    checkpoint = invent_checkpoint(preset, size)
    card = TorchRuntime(checkpoint, device="cpu", sha256="0" * 64).card
    graph = DeployGraph(checkpoint.model, checkpoint.config)
    calibration = quantize.CalibrationSet.load(write_frames(folder / "frames"))
    settings = quantize.QuantizeConfig(images=CALIBRATION_IMAGES)
    for target in missing:
        rows = "static" if target == "tflite" else "dynamic"
        plain, small = (file_of(folder, preset, size, target, precision) for precision in ("fp32", "int8"))
        pkgutil.resolve_name(TARGETS[target][0])(graph, card.updated(target=target, rows=rows), plain)
        # A draft leaves out bias correction, which changes numbers and no operator.
        quantize.open_quantizer(plain, calibration, settings).write(small, frozenset(), is_draft=True)


def invent_checkpoint(name: str, size: int) -> Any:
    """A model with random weights whose activations stay in range and whose scores differ."""
    import torch

    from edge_mrcnn.config import preset
    from edge_mrcnn.model.checkpoint import Checkpoint
    from edge_mrcnn.model.mask_rcnn import apply_inference_settings, build_model

    torch.manual_seed(0)
    config = preset(name).updated(image_size_hw=(size, size), max_detections=20, score_threshold=THRESHOLD)
    model = build_model(config, len(CLASSES)).train()
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = None  # a plain mean over the frames below
    with torch.no_grad():
        for seed in range(4):
            frame = torch.from_numpy(cv2.resize(draw_frame(seed), (size, size))).permute(2, 0, 1)
            model.backbone(model.transform([frame, frame])[0].tensors)
        model.roi_heads.box_predictor.cls_score.weight.mul_(8)
    apply_inference_settings(model.eval(), config)
    return Checkpoint(model=model, config=config, classes=CLASSES, category_ids=tuple(range(1, len(CLASSES) + 1)))


def write_frames(folder: Path) -> Path:
    """Pictures to calibrate on, the same for everybody."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(16):
        file = folder / f"{seed}.jpg"
        if not file.is_file():
            cv2.imwrite(str(file), draw_frame(seed))
    return folder


class Ours:
    """One of our files, finding exactly K objects in the frame.

    The network runs with K live rows: its score threshold is set between the K-th and the next score that it gives
    the frame. What then is drawn and written are the prescribed objects, so that all contenders draw the same.
    """

    def __init__(self, file: Path, objects: Objects, threads: int, clock: Clock) -> None:
        self.file, self.objects, self._clock = file, objects, clock
        self._network_s = 0.0
        with TemporaryDirectory() as folder:
            self._runtime = runtimes.load(set_threshold(file, find_threshold(file, len(objects)), Path(folder)),
                                          threads=threads)  # fmt: skip
        card = self._runtime.card
        _, box = letterbox(draw_frame(), card)
        disc = np.repeat(draw_disc(card.mask_size)[None], len(objects), 0)
        scaled = objects.boxes_xyxy * np.float32([box.scale_x, box.scale_y] * 2)
        self._prescribed = RawOutputs(scaled, objects.scores, objects.labels, disc)
        self._face = FakeRuntime(card, self._run)

    def _run(self, x: NDArray[np.uint8]) -> RawOutputs:
        start = self._clock()
        raw = self._runtime.run(x)
        self._network_s = self._clock() - start
        found = int((raw.scores > 0).sum())
        assert found == len(self.objects), f"{self.file}: {found} found instead of {len(self.objects)}"
        return self._prescribed

    def process(self, frame: NDArray[np.uint8]) -> Stages:
        """From a BGR frame to a drawn picture and JSON."""
        start = self._clock()
        image = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        found = self._face.infer(image)
        _ = found.masks.regions
        results = self._clock()
        self.json = json.dumps(found.to_coco(1))
        self.picture = found.plot(image)
        end = self._clock()
        return Stages(network=1e3 * self._network_s, results=1e3 * (results - start), finished=1e3 * (end - start))

    def close(self) -> None:
        self._runtime.close()


def find_threshold(file: Path, count: int) -> float:
    """A threshold that `count` of the scores of the frame pass."""
    if count == 0:
        return 2.0
    with TemporaryDirectory() as folder, runtimes.load(set_threshold(file, 1e-6, Path(folder))) as runtime:
        x, _ = letterbox(cv2.cvtColor(draw_frame(), cv2.COLOR_BGR2RGB), runtime.card)
        scores = np.sort(np.array(runtime.run(x).scores))[::-1]
    assert len(scores) >= count and scores[count - 1] > 0, f"{file}: has fewer than {count} detections in the frame"
    return 1e-6 if len(scores) == count else float(scores[count - 1] + scores[count]) / 2


def set_threshold(file: Path, threshold: float, folder: Path) -> Path:
    """A copy of a model file with another score threshold."""
    before, after = struct.pack("<f", THRESHOLD), struct.pack("<f", threshold)
    parts = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    copies = [folder / part.name for part in parts]
    data = [part.read_bytes() for part in parts]
    assert sum(content.count(before) for content in data) >= 1, f"{file}: has no threshold of {THRESHOLD}"
    for copy, content in zip(copies, data, strict=True):
        copy.write_bytes(content.replace(before, after))
    write_seal(copies[0])
    return copies[0]

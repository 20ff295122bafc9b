"""Our side: presets with random weights or trained checkpoints, their INT8 files, and a frame from BGR pixels to a
picture and COCO JSON."""

from __future__ import annotations

import hashlib
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
from edge_mrcnn.config import PRESETS
from runtimes.base import FakeRuntime, RawOutputs
from runtimes.formats import FORMATS, files_of
from runtimes.preprocess import letterbox
from runtimes.seal import write_seal

THRESHOLD = 0.0503
"""Score threshold of the files: a number whose bytes occur in them only once."""
CALIBRATION_IMAGES = 8
"""Number of calibration pictures: enough for a time, not for an accuracy."""
MAX_DETECTIONS = 20
FRAMES = 16
"""Number of candidate frames for a model with few classes."""
INVENTED = dict(PRESETS)
"""Name of a contender with random weights -> its parts."""
TRAINED: dict[str, Path] = {}
"""Name of a contender -> its checkpoint, for trained models."""


class TooFewObjects(Exception):
    """A model finds fewer objects than requested in every frame."""


def enter_checkpoint(file: Path) -> str:
    """Name a trained model after its folder and its preset, and remember it."""
    from edge_mrcnn.model.checkpoint import load_checkpoint

    name = f"{file.parent.name}-{load_checkpoint(file).config.name}"
    TRAINED[name] = file
    return name


def file_of(folder: Path, preset: str, size: int, runtime: str, precision: str) -> Path:
    """The path of a file."""
    return folder / f"{preset}-{size}{'-int8' * (precision == 'int8')}{FORMATS[runtime].suffix}"


def make_files(folder: Path, name: str, size: int, targets: Sequence[str]) -> None:
    """Export a model for each target, in FP32 and INT8; existing files are kept."""
    digest = hashlib.sha256(TRAINED[name].read_bytes()).hexdigest() if name in TRAINED else "0" * 64
    missing = [t for t in targets if not is_made(file_of(folder, name, size, t, "int8"), digest)]
    if not missing:
        return
    import quantize
    from edge_mrcnn.export import TARGETS
    from edge_mrcnn.export.graph import DeployGraph
    from edge_mrcnn.reference import TorchRuntime

    checkpoint = load_trained(TRAINED[name], size) if name in TRAINED else invent_checkpoint(name, size)
    card = TorchRuntime(checkpoint, device="cpu", sha256=digest).card
    graph = DeployGraph(checkpoint.model, checkpoint.config)
    calibration = quantize.CalibrationSet.load(write_frames(folder / "frames"))
    settings = quantize.QuantizeConfig(images=CALIBRATION_IMAGES)
    for target in missing:
        rows = "static" if TARGETS[target].is_static else "dynamic"
        plain, small = (file_of(folder, name, size, target, precision) for precision in ("fp32", "int8"))
        pkgutil.resolve_name(TARGETS[target].writer)(graph, card.updated(target=target, rows=rows), plain)
        # A draft leaves out bias correction, which changes numbers and no operator.
        quantize.open_quantizer(plain, calibration, settings).write(small, frozenset(), is_draft=True)


def is_made(file: Path, digest: str) -> bool:
    """Whether a file exists and comes from this checkpoint."""
    return file.is_file() and runtimes.read_card(file).checkpoint_sha256 == digest


def load_trained(file: Path, size: int) -> Any:
    """A checkpoint with the input size and the settings that all contenders have."""
    from edge_mrcnn.export.pipeline import adapt
    from edge_mrcnn.export.settings import ExportConfig
    from edge_mrcnn.model.checkpoint import load_checkpoint

    settings = ExportConfig(
        image_size_hw=(size, size), max_detections=MAX_DETECTIONS, score_threshold=THRESHOLD, roi_samples=1
    )
    return adapt(load_checkpoint(file), settings)


def invent_checkpoint(name: str, size: int) -> Any:
    """A model with random weights whose activations stay in range and whose scores differ."""
    import torch

    from edge_mrcnn.model.checkpoint import Checkpoint
    from edge_mrcnn.model.mask_rcnn import apply_inference_settings, build_model

    torch.manual_seed(0)
    config = INVENTED[name].updated(
        image_size_hw=(size, size), max_detections=MAX_DETECTIONS, score_threshold=THRESHOLD
    )
    model = build_model(config, len(CLASSES))
    calibrate_norms(
        model, [torch.from_numpy(cv2.resize(draw_frame(seed), (size, size))).permute(2, 0, 1) for seed in range(4)]
    )
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.weight.mul_(8)
    apply_inference_settings(model.eval(), config)
    return Checkpoint(model=model, config=config, classes=CLASSES, category_ids=tuple(range(1, len(CLASSES) + 1)))


def calibrate_norms(model: Any, images: Sequence[Any]) -> None:
    """Set the normalisation of a backbone with random weights from a few images, (3, h, w) as the model takes them."""
    import torch

    for norm in (m for m in model.train().modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.momentum = None  # None: the statistics become the plain mean over all batches
    with torch.no_grad():
        for image in images:
            model.backbone(model.transform([image, image])[0].tensors)


def write_frames(folder: Path) -> Path:
    """The calibration pictures, the same for all contenders."""
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

    def __init__(self, file: Path, size: int, objects: Objects, threads: int, clock: Clock) -> None:
        self.file, self.objects, self._clock = file, objects, clock
        self._network_s = 0.0
        seed, threshold = find_frame(file, len(objects))
        self._frame = draw_frame(seed)
        with TemporaryDirectory() as folder:
            self._runtime = runtimes.load(set_threshold(file, threshold, Path(folder)), threads=threads)
        card = self._runtime.card
        _, box = letterbox(self._frame, card)
        disc = np.repeat(draw_disc(card.mask_size)[None], len(objects), 0)
        scaled = objects.boxes_xyxy * np.float32([box.scale_x, box.scale_y] * 2)
        self._prescribed = RawOutputs(scaled, objects.scores, objects.labels % len(card.classes), disc)
        self._face = FakeRuntime(card, self._run)

    def _run(self, x: NDArray[np.uint8]) -> RawOutputs:
        start = self._clock()
        raw = self._runtime.run(x)
        self._network_s = self._clock() - start
        found = int((raw.scores > 0).sum())
        assert found == len(self.objects), f"{self.file}: {found} found instead of {len(self.objects)}"
        return self._prescribed

    def process(self) -> Stages:
        """From a BGR frame to a drawn picture and JSON."""
        start = self._clock()
        found = self._face.infer(self._frame, order="bgr")
        _ = found.masks.regions
        results = self._clock()
        self.json = json.dumps(found.to_coco(1))
        self.picture = found.plot(self._frame, order="bgr")
        end = self._clock()
        return Stages(network=1e3 * self._network_s, results=1e3 * (results - start), finished=1e3 * (end - start))


def find_frame(file: Path, count: int) -> tuple[int, float]:
    """The seed of the first frame in which `count` objects are found with some score threshold, and that threshold.

    Raises:
        TooFewObjects: If there is no such frame.
    """
    if count == 0:
        return 0, 2.0
    with TemporaryDirectory() as folder, runtimes.load(set_threshold(file, 1e-6, Path(folder))) as runtime:
        for seed in range(FRAMES):
            x, _ = letterbox(cv2.cvtColor(draw_frame(seed), cv2.COLOR_BGR2RGB), runtime.card)
            scores = [*np.sort(np.array(runtime.run(x).scores))[::-1], 0.0]
            if len(scores) > count and scores[count - 1] > scores[count]:
                return seed, float(scores[count - 1] + scores[count]) / 2
    raise TooFewObjects(f"{file}: finds fewer than {count} objects in each of {FRAMES} frames")


def set_threshold(file: Path, threshold: float, folder: Path) -> Path:
    """A copy of a model file with another score threshold."""
    before, after = struct.pack("<f", THRESHOLD), struct.pack("<f", threshold)
    parts = files_of(file)
    copies = [folder / part.name for part in parts]
    data = [part.read_bytes() for part in parts]
    assert sum(content.count(before) for content in data) >= 1, f"{file}: has no threshold of {THRESHOLD}"
    for copy, content in zip(copies, data, strict=True):
        copy.write_bytes(content.replace(before, after))
    write_seal(copies[0])
    return copies[0]

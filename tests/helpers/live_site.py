"""A running camera loop on loopback, with a generated source and a fake model, for the tests of `edge_mrcnn.live`."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mrcnn.live.access import Access, Address
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.monitor import Monitor
from edge_mrcnn.live.outputs.base import Output
from edge_mrcnn.live.pictures import PictureEncoder
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.live.routes import Site
from edge_mrcnn.live.scenes import Scenes
from edge_mrcnn.live.web import PageServer
from runtimes import Detections, FakeRuntime, ModelCard, RawOutputs
from runtimes.sources import Frame, Source
from runtimes.stream import Stream

CARD = ModelCard(
    name="toy", classes=("cup", "bottle"), category_ids=(1, 2), input_size_hw=(96, 160), pad_rgb=(114, 114, 114),
    proposals=4, max_detections=8, mask_size=14, score_threshold=0.05, iou_threshold=0.5, target="fake",
)  # fmt: skip
SIZE_HW = (180, 320)


class Moving(Source):
    """A live source of grey pictures whose corner counts the frames."""

    is_live = True

    def __init__(self, name: str, fps: float = 50.0) -> None:
        super().__init__(name)
        self._pause_s = 1 / fps
        self._aborted = threading.Event()

    def abort(self) -> None:
        self._aborted.set()

    def __iter__(self):
        start = time.monotonic()
        for index in itertools.count():
            if self._aborted.wait(self._pause_s):
                return
            image = np.full((*SIZE_HW, 3), 90, np.uint8)
            image[:8, :8] = index % 256
            yield Frame(image, index, time.monotonic() - start, self.name)


def detect_three(x: np.ndarray) -> RawOutputs:
    """Two cups, one of them doubtful, and a bottle."""
    boxes = np.array([[20, 20, 50, 50], [80, 20, 110, 50], [60, 60, 90, 90]], np.float32)
    return RawOutputs(
        boxes, np.array([0.9, 0.7, 0.4], np.float32), np.array([0, 1, 0]), np.ones((3, 14, 14), np.float32)
    )


def detect(
    *centers: tuple[float, float], labels: list[int] | None = None, scores: list[float] | None = None
) -> Detections:
    """Detections of 30 x 30 pixels around points of a picture of `SIZE_HW`."""
    points = np.array(centers, np.float32).reshape(-1, 2)
    return Detections(
        boxes_xyxy=np.hstack([points - 15, points + 15]), scores=np.array(scores or [0.9] * len(points), np.float32),
        labels=np.array(labels or [0] * len(points), np.int64), mask_probs=np.ones((len(points), 14, 14), np.float32),
        image_size_hw=SIZE_HW, names=CARD.classes, category_ids=CARD.category_ids,
        speed_ms={"preprocess": 1.0, "inference": 12.0, "postprocess": 0.5},
    )  # fmt: skip


def make_frame(index: int = 0, source: str = "door", time_s: float = 0.0) -> Frame:
    """A grey frame."""
    return Frame(np.full((*SIZE_HW, 3), 90, np.uint8), index, time_s, source, source)


def make_result(frame: Frame, found: Detections, **facts: Any) -> LiveResult:
    """What an output gets."""
    return LiveResult(frame, found, **facts)


start_thread = Output().start_thread


@dataclass
class Running:
    """The running parts."""

    stream: Stream
    site: Site
    server: PageServer
    frames: list[float]
    """When each frame went through the loop, by the monotonic clock."""

    @property
    def url(self) -> str:
        return self.server.address.url


@contextmanager
def running(sources: Any = None, *, token: str | None = None, **places: Any) -> Iterator[Running]:
    """The loop and its page, until the end of the block."""
    stream = Stream(FakeRuntime(CARD, detect_three), sources or {"door": Moving("door")}, is_patient=True)
    controls = Controls(0.5, stream.pause)
    scenes = Scenes(controls, **places)
    encoder, address = PictureEncoder(start_thread), Address("127.0.0.1", 0)
    site = Site(CARD, Monitor(stream.status), controls, scenes, encoder, Access(address, token))
    run = Running(stream, site, PageServer(address, site), [])

    def loop() -> None:
        for frame, found in stream:
            found, _ = scenes.update(frame, found)
            site.monitor.put(frame, found)
            encoder.put(make_result(frame, found, overlay=scenes.draw))
            run.frames.append(time.monotonic())

    thread = threading.Thread(target=loop, name="loop")
    thread.start()
    try:
        yield run
    finally:
        stream.stop()
        thread.join(10)
        run.server.close()
        encoder.close()

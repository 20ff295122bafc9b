"""Images for messages, with masks drawn or plain: JPEGs from a thread of their own."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2

from edge_mrcnn.live.pictures import QUALITY, StartThread
from edge_mrcnn.live.result import LiveResult

Deliver = Callable[[bytes | None], None]
"""Receives a JPEG; None if there was no time to make one."""

WAITING = 4
"""Maximum number of frames that wait to be encoded; further ones get no image."""
FLUSH_S = 0.5
"""Maximum seconds at the end to encode waiting frames."""


@dataclass(frozen=True, kw_only=True)
class SnapshotStyle:
    """Style of the images of messages."""

    kind: Literal["drawn", "plain"]
    """With masks, labels and counts, or the plain frame."""
    max_side: int = 1280
    """Maximum length of the longer side, in pixels."""


class SnapshotEncoder:
    """Encodes the frames of messages; close it when done."""

    def __init__(self, style: SnapshotStyle, start_thread: StartThread) -> None:
        """Start the thread.

        Args:
            style: Style of the images.
            start_thread: Starts the thread, and handles its exceptions.
        """
        self._style = style
        self._queue: queue.Queue[tuple[LiveResult, Deliver] | None] = queue.Queue(WAITING)
        self._thread = start_thread(self._run, "snapshots")

    def submit(self, result: LiveResult | None, deliver: Deliver) -> None:
        """Make an image of a result in the thread and deliver it; never waits.

        Args:
            result: The result; None gives no image.
            deliver: Called once, from the thread, or at once with None.
        """
        if result is None:
            deliver(None)
            return
        try:
            self._queue.put_nowait((result, deliver))
        except queue.Full:
            deliver(None)

    def close(self) -> None:
        """Encode waiting frames, for at most a moment."""
        try:
            self._queue.put(None, timeout=FLUSH_S)
        except queue.Full:
            return
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        last: LiveResult | None = None
        jpeg = b""
        while (job := self._queue.get()) is not None:
            result, deliver = job
            if result is not last:  # several messages may be about the same frame
                last, jpeg = result, encode_snapshot(result, self._style)
            deliver(jpeg)


def encode_snapshot(result: LiveResult, style: SnapshotStyle) -> bytes:
    """A JPEG of a result."""
    if style.kind == "drawn":
        image = result.drawn_for_screen(style.max_side)
    else:
        image = result.plain_for_screen(style.max_side)
    cv2.cvtColor(image, cv2.COLOR_RGB2BGR, dst=image)
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return data.tobytes()

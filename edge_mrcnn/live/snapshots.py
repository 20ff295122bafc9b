"""Pictures for messages: drawn or plain, as JPEG, made in a thread of their own while the loop goes on."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2

from edge_mrcnn.live.pictures import QUALITY, StartThread
from edge_mrcnn.live.result import LiveResult

Deliver = Callable[[bytes | None], None]
"""Takes a JPEG; None where there was no time to make one."""

WAITING = 4
"""Frames that may wait to be encoded; of further ones there is no picture."""
FLUSH_S = 0.5
"""Seconds at the end to finish what waits."""


@dataclass(frozen=True, kw_only=True)
class SnapshotStyle:
    """How pictures of messages look."""

    kind: Literal["drawn", "plain"]
    """With masks, labels and counts, or as the camera gave it."""
    max_side: int = 1280
    """Longer side at most, in pixels."""


class SnapshotEncoder:
    """Encodes the frames of messages; close it when done."""

    def __init__(self, style: SnapshotStyle, start_thread: StartThread) -> None:
        """Begin to wait.

        Args:
            style: How they look.
            start_thread: Starts the thread, and hears of what it raises.
        """
        self._style = style
        self._queue: queue.Queue[tuple[LiveResult, Deliver] | None] = queue.Queue(WAITING)
        self._thread = start_thread(self._run, "snapshots")

    def submit(self, result: LiveResult | None, deliver: Deliver) -> None:
        """Have a picture made of a result and handed over, by the thread; never waits.

        Args:
            result: The result; None where there is none, which gives no picture.
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
        """Encode what waits, for a moment at most."""
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
            if result is not last:  # several messages may be about one frame
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

"""Images that a reading process writes into memory shared by both processes, used without a copy."""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from runtimes.sources.pixels import Array, AvPixels, Pixels, SizeHw

PIECES = 4
"""Number of whole images that can be in use without a copy: one in the model, one before it, one or two after it."""


class SharedMemory:
    """A few parts of memory; each is reused when its image is no longer needed. Thread-safe."""

    def __init__(self) -> None:
        self.descriptors = [make_memory() for _ in range(PIECES)]
        """Descriptors for the reading process."""
        self._maps: list[mmap.mmap | None] = [None] * PIECES
        self._users: dict[int, weakref.ref[SharedPixels]] = {}
        """Part -> the image in it, oldest first."""
        self._lock = threading.Lock()

    def choose(self) -> int:
        """The number of a free part; without one, the oldest image in use is copied out of its part."""
        with self._lock:
            for piece in range(PIECES):
                user = self._users.get(piece)
                pixels = user() if user else None
                if pixels is None or pixels.has_own_memory:
                    self._users.pop(piece, None)
                    return piece
            oldest = next(iter(self._users))
            pixels = self._users.pop(oldest)()
        if pixels is not None:
            pixels.move_out()
        return oldest

    def read_small(self, piece: int, fields: Mapping[str, Any]) -> Array:
        """A copy of a small "rgb24" image in a part: (h, w, 3) uint8 RGB."""
        (plane,) = self._view(piece, fields)
        height, width = fields["size_hw"]
        return plane[:, : 3 * width].reshape(height, width, 3).copy()

    def take_whole(self, piece: int, fields: Mapping[str, Any]) -> SharedPixels:
        """The image in a part, which is not overwritten while it is needed."""
        pixels = SharedPixels(self._view(piece, fields), fields)
        with self._lock:
            self._users[piece] = weakref.ref(pixels)
        return pixels

    def close(self) -> None:
        """Close the descriptors; images in use stay valid."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self._maps = [None] * PIECES

    def _view(self, piece: int, fields: Mapping[str, Any]) -> list[Array]:
        """The planes of an image, (rows, stride) uint8 each."""
        end = max(start + rows * stride for start, rows, stride in fields["planes"])
        memory = self._maps[piece]
        if memory is None or len(memory) < end:
            descriptor = self.descriptors[piece]
            memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size, prot=mmap.PROT_READ)
            self._maps[piece] = memory
        planes = []
        for start, rows, stride in fields["planes"]:
            planes.append(np.frombuffer(memory, np.uint8, rows * stride, start).reshape(rows, stride))
        return planes


class SharedPixels(Pixels):
    """The planes of an image in shared memory."""

    def __init__(self, planes: list[Array], fields: Mapping[str, Any]) -> None:
        """

        Args:
            planes: (rows, stride) uint8 each.
            fields: As made by `reader.outlet.describe`.
        """
        height, width = fields["size_hw"]
        super().__init__((height, width))
        self._planes = planes
        self._fields = fields
        self.has_own_memory = False
        """Whether the shared memory may be reused."""

    def move_out(self) -> None:
        """Copy the planes, so that the shared memory can be reused."""
        with self._lock:
            self._planes = [plane.copy() for plane in self._planes]
            self.has_own_memory = True

    def _make_rgb(self) -> Array:
        form = self._fields["form"]
        if form not in ("rgb24", "bgr24"):
            return AvPixels(self._make_frame()).rgb()
        height, width = self.size_hw
        image = self._planes[0][:, : 3 * width].reshape(height, width, 3)
        return image.copy() if form == "rgb24" else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)

    def _make_resized(self, size_hw: SizeHw) -> Array:
        if self._fields["form"] in ("rgb24", "bgr24"):
            return cv2.resize(self._make_rgb(), size_hw[::-1], interpolation=cv2.INTER_AREA)
        return AvPixels(self._make_frame()).resized(size_hw)

    def _make_frame(self) -> Any:
        """A `VideoFrame` with these planes."""
        import av

        height, width = self.size_hw
        frame: Any = av.VideoFrame(width, height, self._fields["form"])
        frame.colorspace, frame.color_range = self._fields["colorspace"], self._fields["color_range"]
        for plane, rows in zip(frame.planes, self._planes, strict=True):
            own = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
            common = min(plane.line_size, rows.shape[1])
            own[: len(rows), :common] = rows[: len(own), :common]
        return frame

    def _forget(self) -> None:
        self._planes = []
        self.has_own_memory = True


def make_memory() -> int:
    """A descriptor of anonymous memory, which is freed with the last process that uses it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edge-mrcnn frame")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

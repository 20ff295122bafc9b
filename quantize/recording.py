"""Recording of a calibration set from a camera: images at intervals, each different from those before."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from quantize.calibration import CalibrationEntry, describe_image
from quantize.picking import light_of
from runtimes.errors import DataError
from runtimes.sources import Frame

THUMBNAIL_PX = 32
"""Side of the gray thumbnails for comparing images."""


class Recorder:
    """Keeps frames of a source that differ enough in time and content."""

    def __init__(self, folder: Path, source: str, *, licence: str, every_s: float, novelty: float) -> None:
        """Make one.

        Args:
            folder: Folder for `images/`.
            source: Source of the frames, for the manifest.
            licence: Licence of the images.
            every_s: Minimum seconds of the source's clock between two kept frames.
            novelty: Minimum mean difference from every kept frame, as a share of full scale, in [0, 1].
        """
        self.entries: list[CalibrationEntry] = []
        """The kept images so far."""
        self.refused = 0
        """Number of frames that were due but too similar to a kept one."""
        self._folder = folder
        self._source = source
        self._licence = licence
        self._every_s = every_s
        self._novelty = novelty
        self._thumbnails: list[NDArray[np.float32]] = []
        self._next_s = 0.0

    def offer(self, frame: Frame) -> bool:
        """Keep a frame if it is due and different enough; returns whether it was kept.

        Raises:
            DataError: If it cannot be written.
        """
        if frame.time_s < self._next_s:
            return False
        gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
        thumbnail = cv2.resize(gray, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
        distance = min((float(np.abs(thumbnail - other).mean()) / 255 for other in self._thumbnails), default=1.0)
        if distance < self._novelty:
            self.refused += 1
            return False
        apart = f"{100 * distance:.0f} % from the nearest" if self.entries else "the first"
        self._keep(frame, f"{light_of(np.asarray(gray, np.uint8))}, {apart}")
        self._thumbnails.append(thumbnail)
        self._next_s = frame.time_s + self._every_s
        return True

    def _keep(self, frame: Frame, why: str) -> None:
        file = f"images/{len(self.entries):04}.jpg"
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        done = cv2.imwrite(str(path), cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not done:
            raise DataError(f"{path}: cannot be written; is the disk full?")
        source = f"{self._source}, {frame.time_s:.1f} s"
        self.entries.append(describe_image(self._folder, file, source=source, licence=self._licence, why=why))

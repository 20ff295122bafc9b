"""Several video files as one source: a folder of recordings, or a glob pattern."""

from __future__ import annotations

import logging
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from runtimes.errors import SourceError
from runtimes.sources.base import Frame, Source
from runtimes.sources.files import VIDEO_SUFFIXES, VideoSource

RECORDINGS = (*VIDEO_SUFFIXES, ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".3gp")
"""Suffixes of video files, for folders."""

logger = logging.getLogger(__name__)


class PlaylistSource(Source):
    """Every frame of several video files, in order; frame numbers and times continue from file to file.

    After a file that cannot be read, or ends early, the next ones are still read; it is an error at the end.
    """

    def __init__(self, name: str, paths: list[Path]) -> None:
        """Open and check each file.

        Args:
            name: Name of the source in messages.
            paths: Video files, in order.

        Raises:
            SourceError: If none can be decoded.
        """
        super().__init__(name)
        self.paths = paths
        self._videos: list[VideoSource] = []
        self._refused: list[SourceError] = []
        for path in paths:
            try:
                self._videos.append(VideoSource(path))
            except SourceError as error:
                self._refused.append(error)
        if not self._videos:
            raise self._refused[0]
        self.frame_count = sum(video.frame_count for video in self._videos)
        rates = {video.fps for video in self._videos}
        self.fps = self._videos[0].fps if len(rates) == 1 else None

    def reads(self) -> list[Path]:
        """The files, and their folders."""
        return [*self.paths, *{path.parent for path in self.paths}]

    def __iter__(self) -> Generator[Frame, None, None]:
        """Yield all frames.

        SourceError is raised at the end, if files were damaged.

        Raises:
            SourceError: At the end, if files were damaged.
        """
        errors = list(self._refused)
        for error in errors:
            logger.warning("skipped %s", error)
        index, begin_s = 0, 0.0
        for video in self._videos:
            video.input_hw = self.input_hw
            end_s = begin_s
            step_s = 1 / (video.fps or 25.0)
            try:
                for frame in video:
                    time_s = begin_s + frame.time_s
                    end_s = time_s + step_s
                    # The image is passed on unconverted; `replace` would convert it to RGB.
                    changes: dict[str, Any] = {"image": frame.pixels, "index": index, "time_s": time_s}
                    yield replace(frame, **changes)
                    index += 1
            except SourceError as error:
                logger.warning("%s", error)
                errors.append(error)
            begin_s = end_s
        if errors:
            count = f"{len(errors)} of {len(self.paths)} videos"
            raise SourceError(
                f"{self.name}: {count} could not be read completely; the first error: {errors[0]}", code="damaged"
            )


def is_recording(path: Path) -> bool:
    """Whether a path is a video file, by its name."""
    return path.suffix.lower() in RECORDINGS and path.is_file()

"""Every so many frames of a video: what lies between is decoded, but neither shown to the model nor counted."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path

from runtimes.errors import UsageError
from runtimes.sources.base import Frame, Source
from runtimes.sources.files import VideoSource
from runtimes.sources.playlist import PlaylistSource


class StridedSource(Source):
    """Every so many frames of another source; they keep their numbers and times."""

    def __init__(self, source: Source, stride: int) -> None:
        """
        Args:
            source: Of video files.
            stride: Every so many frames, beginning with the first.
        """
        super().__init__(source.name)
        self._source = source
        self._stride = stride
        self.fps = source.fps and source.fps / stride
        self.frame_count = math.ceil(source.frame_count / stride)

    def reads(self) -> list[Path]:
        return self._source.reads()

    def abort(self) -> None:
        self._source.abort()

    def __iter__(self) -> Generator[Frame, None, None]:
        self._source.input_hw = self.input_hw
        with closing(iter(self._source)) as frames:
            for frame in frames:
                if frame.index % self._stride == 0:
                    yield frame


def stride_sources(sources: Mapping[str, Source], stride: int) -> dict[str, Source]:
    """Sources of which every so many frames are taken where they are video files.

    Raises:
        UsageError: If none is, and frames are to be left out.
    """
    if stride == 1:
        return dict(sources)
    strided: dict[str, Source] = {}
    for label, source in sources.items():
        is_video = isinstance(source, (VideoSource, PlaylistSource))
        strided[label] = StridedSource(source, stride) if is_video else source
    if not any(isinstance(source, StridedSource) for source in strided.values()):
        raise UsageError(
            f"--vid-stride {stride}: no source is a video file; of a camera the newest frame is taken anyway, and its "
            "rate can be set: 0#fps=5"
        )
    return strided

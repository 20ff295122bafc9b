"""Every Nth frame of a video: the others are decoded, but neither processed nor counted."""

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
    """Every Nth frame of another source; frames keep their numbers and times."""

    def __init__(self, source: Source, stride: int) -> None:
        """

        Args:
            source: Source of video files.
            stride: N; the first frame is included.
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
    """Sources with every Nth frame of those that are video files.

    Raises:
        UsageError: If N is above 1 and none is a video file.
    """
    if stride == 1:
        return dict(sources)
    strided: dict[str, Source] = {}
    for label, source in sources.items():
        is_video = isinstance(source, (VideoSource, PlaylistSource))
        strided[label] = StridedSource(source, stride) if is_video else source
    if not any(isinstance(source, StridedSource) for source in strided.values()):
        raise UsageError(
            f"--vid-stride {stride}: expected a video file among the sources; for a camera, set its frame rate: 0#fps=5"
        )
    return strided

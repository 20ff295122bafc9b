"""Where drawn pictures go: a video file or a folder of images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from runtimes.errors import UsageError
from runtimes.sinks.background import Background
from runtimes.sinks.base import GuardedSink, Reserve, Sink
from runtimes.sinks.images import ImageSink, write_image
from runtimes.sinks.segments import SegmentSink, Split, find_segments
from runtimes.sinks.video import DEFAULT_FPS, VIDEO_SUFFIXES, PlainVideoSink, VideoSink
from runtimes.sources import ImageSource, Source

__all__ = [
    "Background",
    "GuardedSink",
    "Reserve",
    "Sink",
    "Split",
    "find_segments",
    "name_for",
    "open_sink",
    "open_sinks",
    "write_image",
]


def open_sinks(
    path: str | Path, sources: Mapping[str, Source], reserve: Reserve, split: Split | None = None
) -> dict[str, Sink]:
    """Choose how to keep the pictures of each source; with several, its name goes into the name of the file.

    Args:
        path: A folder (or, for one image, an image file); a .mp4, .mkv or .mov for moving pictures.
        sources: Where the frames come from, by name.
        reserve: What recordings leave free of the disk.
        split: How videos are split into several files; one file if None.

    Raises:
        UsageError: If the path does not fit a source, or the disk is nearly full.
    """
    sinks: dict[str, Sink] = {}
    for name, source in sources.items():
        own = Path(path) if len(sources) == 1 else name_for(Path(path), name)
        sinks[name] = GuardedSink(open_sink(own, source, split), own, reserve)
    return sinks


def name_for(path: Path, source: str) -> Path:
    """A path of its own for a source: "out.mp4" of "door" is "out-door.mp4", the folder "out" is "out/door"."""
    slug = re.sub(r"[^\w.-]+", "-", source.partition("://")[2] or source).strip("-.")
    return path.with_stem(f"{path.stem}-{slug}") if path.suffix else path / slug


def open_sink(path: str | Path, source: Source, split: Split | None = None) -> Sink:
    """Choose how to keep the pictures of a source: images become images, anything else a video.

    Args:
        path: A folder (or, for one image, an image file); a .mp4, .mkv or .mov for moving pictures.
        source: Where the frames come from.
        split: How a video is split into several files; one file if None.

    Raises:
        UsageError: If the path does not fit the source.
    """
    path = Path(path)
    if isinstance(source, ImageSource):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise UsageError(f"{path}: the source is images; name a folder to keep them in")
        return ImageSink(path, source)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise UsageError(f"{path}: expected a video file ending in {', '.join(VIDEO_SUFFIXES)}")
    open_one = partial(open_video, fps=source.fps or DEFAULT_FPS)
    return SegmentSink(path, split, open_one) if split else open_one(path)


def open_video(path: Path, *, fps: float) -> Sink:
    """A video file: by PyAV, or OpenCV without it.

    Args:
        path: The file; it is made at once.
        fps: Frames per second, where frames cannot have times of their own.

    Raises:
        UsageError: If it cannot be written.
    """
    make_file(path)
    try:
        import av
    except ModuleNotFoundError:
        return PlainVideoSink(path, fps)
    return VideoSink(path, av)


def make_file(path: Path) -> None:
    """Make an empty file and its folder, to find out now whether it can be written.

    Raises:
        UsageError: If it cannot.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("wb").close()
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error

"""Sinks for drawn frames: a video file or a folder of images."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from runtimes.errors import UsageError
from runtimes.output_paths import expect_writable, separate
from runtimes.pictures import write_image
from runtimes.sinks.background import Background
from runtimes.sinks.base import GuardedSink, Reserve, Sink
from runtimes.sinks.images import ImageSink
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
    "name_outputs",
    "open_sink",
    "open_sinks",
    "write_image",
]


def open_sinks(
    path: str | Path,
    sources: Mapping[str, Source],
    reserve: Reserve,
    split: Split | None = None,
    *,
    overwrite: bool = False,
) -> dict[str, GuardedSink]:
    """Choose a sink for each source; nothing is created before its first frame.

    Args:
        path: A folder (or, for one image, an image file), or a .mp4, .mkv or .mov for videos.
        sources: Sources by name.
        reserve: Disk space that recordings leave free.
        split: How videos are split into several files; one file if None.
        overwrite: Whether an existing output is replaced; else the new one gets a number.

    Raises:
        UsageError: If the path does not fit a source.
        UnavailableError: If it cannot be written, or the disk is nearly full.
    """
    sinks: dict[str, GuardedSink] = {}
    for name, own in name_outputs(Path(path), sources).items():
        sink = open_sink(own, sources[name], split, overwrite=overwrite)
        sinks[name] = GuardedSink(sink, own, reserve)
    return sinks


def name_outputs(path: Path, sources: Iterable[str]) -> dict[str, Path]:
    """A path for each source: the path itself for one source; for several, "out.mp4" of "door" becomes "out-door.mp4".

    Paths are unique, also if names differ only in case or in characters that a file name cannot contain.
    """
    labels = list(sources)
    if len(labels) == 1:
        return {labels[0]: path}
    slugs = separate({label: _slug(label) for label in labels})
    return {
        label: path.with_stem(f"{path.stem}-{slug}") if path.suffix else path / slug for label, slug in slugs.items()
    }


def _slug(label: str) -> str:
    return re.sub(r"[^\w.-]+", "-", label.partition("://")[2] or label).strip("-.") or "source"


def open_sink(path: str | Path, source: Source, split: Split | None = None, *, overwrite: bool = False) -> Sink:
    """Choose a sink for a source: images for images, a video for anything else.

    Args:
        path: A folder (or, for one image, an image file), or a .mp4, .mkv or .mov for videos.
        source: The source.
        split: How a video is split into several files; one file if None.
        overwrite: Whether an existing output is replaced; else the new one gets a number.

    Raises:
        UsageError: If the path does not fit the source.
        UnavailableError: If it cannot be written.
    """
    path = Path(path)
    if isinstance(source, ImageSource):
        if path.suffix.lower() in VIDEO_SUFFIXES:
            raise UsageError(f"{path}: the source is images; expected a folder to save them in")
        expect_writable(path)
        return ImageSink(path, source, overwrite=overwrite)
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise UsageError(f"{path}: expected a video file ending in {', '.join(VIDEO_SUFFIXES)}")
    expect_writable(path)
    open_one = partial(open_video, fps=source.fps or DEFAULT_FPS, overwrite=overwrite)
    return SegmentSink(path, split, open_one) if split else open_one(path)


def open_video(path: Path, *, fps: float, overwrite: bool = False) -> Sink:
    """A sink for a video file: with PyAV, or OpenCV without it.

    Args:
        path: The file; it is created with the first frame.
        fps: Frames per second, for formats in which frames have no times of their own.
        overwrite: Whether an existing file is replaced; else the new one gets a number.
    """
    try:
        import av
    except ModuleNotFoundError:
        return PlainVideoSink(path, fps, overwrite=overwrite)
    return VideoSink(path, av, overwrite=overwrite)

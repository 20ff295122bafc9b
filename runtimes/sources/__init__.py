"""Sources of frames: camera, network stream, video file, image, folder, generated scene.

Each iteration of a source opens a fresh handle, so that a lost stream continues with a new iteration. `runtimes.stream`
handles timing, dropping and reconnecting. Passwords never appear in messages.
"""

from __future__ import annotations

import glob
import logging
import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runtimes.errors import SourceError, UsageError, expect_text
from runtimes.redaction import redact
from runtimes.shipped import list_shipped
from runtimes.sources.address import PIPELINE, parse_rate, parse_size, split_label, split_options
from runtimes.sources.base import CODES, STALL_S, Frame, Source
from runtimes.sources.files import IMAGE_SUFFIXES, ImageSource, VideoSource
from runtimes.sources.live import LiveSource, open_camera, open_csi, open_gstreamer, open_network, open_picamera
from runtimes.sources.photograph import PhotographSource
from runtimes.sources.playlist import PlaylistSource, is_recording
from runtimes.sources.synthetic import SyntheticSource
from runtimes.sources.systems import expect_system

__all__ = [
    "CODES",
    "IMAGE_SUFFIXES",
    "STALL_S",
    "Frame",
    "ImageSource",
    "LiveSource",
    "PhotographSource",
    "PlaylistSource",
    "Source",
    "SyntheticSource",
    "VideoSource",
    "open_source",
    "open_sources",
]

logger = logging.getLogger(__name__)

LIVE = (
    (PIPELINE, open_gstreamer),
    (re.compile(r"\d+(#|$)|/dev/"), open_camera),
    (re.compile(r"csi://", re.IGNORECASE), open_csi),
    (re.compile(r"picamera://", re.IGNORECASE), open_picamera),
    (re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE), open_network),
)
"""Prefix of a source -> function that opens it; the first match is used."""


def open_sources(texts: Sequence[str]) -> dict[str, Source]:
    """Several sources by name: the label of `LABEL=SOURCE`, or else the source's description, numbered if two are
    equal.

    Raises:
        SourceError: As `open_source`.
        UsageError: If two have the same label, or an option is unknown.
    """
    named: dict[str, Source] = {}
    for text in texts:
        label, source = open_labelled(text)
        if label in named:
            raise UsageError(f"--source {label}=...: two sources have the same name")
        name, number = label or source.name, 1
        while name in named:
            number += 1
            name = f"{source.name} ({number})"
        named[name] = source
    return named


def open_labelled(text: str) -> tuple[str, Source]:
    """The label of a source, or "", and the source."""
    label, rest = split_label(text)
    if not label or _exists(text):
        return "", open_source(text)
    return label, open_source(rest)


def open_source(text: str | Path) -> Source:
    """Open a source, and check what can be checked without waiting; `address` has the grammar.

    Args:
        text: A camera ("0", "/dev/video0", "/dev/v4l/by-id/...", "csi://0", "picamera://0"), a URL, a GStreamer
            pipeline, "photograph", "synthetic", a video file, an image, a folder or glob pattern of either. Options
            of cameras and streams follow a "#": "0#size=1280x720,fps=30,format=MJPG", "rtsp://host/live#transport=udp".

    Raises:
        SourceError: If a file is missing, a folder is empty, a video cannot be decoded or an address is not valid.
        UsageError: If the text is empty, or an option is unknown.
    """
    text = str(text)
    if not text.strip():
        raise UsageError("the source is empty; expected a camera number, a URL or a file")
    expect_text(text)
    if text.lower().startswith("file:"):
        return open_file(_path_of(text))
    if _exists(text) and not _is_camera(text):
        return open_file(text)
    if _is_device(text.partition("#")[0]):
        return _open_live(open_camera, text)
    _refuse_options_of_files(text)
    for pattern, open_live in LIVE:
        if pattern.match(text):
            return _open_live(open_live, text)
    if _MISTYPED.match(text):
        raise SourceError(
            "expected an address scheme://host/path, such as rtsp://user:password@192.168.1.20/live",
            code="bad-address",
        )
    for name, open_generated in GENERATED.items():
        if re.match(rf"{name}(#|$)", text):
            return open_generated(text)
    return open_file(text)


def _open_live(open_live: Callable[[str], Source], text: str) -> Source:
    """A live source, if this operating system supports it."""
    is_network = open_live is open_network
    if not is_network:
        expect_system(redact(text), is_network=False)
    source = open_live(text)
    if is_network and isinstance(source, LiveSource):  # a video file on a web server is not a LiveSource
        expect_system(source.name, is_network=True)
    return source


_MISTYPED = re.compile(r"[a-z][a-z0-9+.-]*(:/|//)|[^/\s]+:[^/\s]*@|[^/\s]+@[^/\s]+[:/]", re.IGNORECASE)
"""An address with a missing or misspelt scheme; it may contain a password, so it is not repeated."""


def _refuse_options_of_files(text: str) -> None:
    """Raise UsageError for `clip.mp4#fps=5` if the file exists."""
    path = text
    while "#" in path:
        path = path.rpartition("#")[0]
        if _exists(path) and not _is_camera(path):
            raise UsageError(f"{path}: a file or folder takes no options; remove the # and the text after it")


def _exists(text: str) -> bool:
    try:
        return os.path.exists(text)
    except ValueError:  # a text with a zero byte cannot be a path
        return False


def _is_device(path: str) -> bool:
    """Whether a path is a device file or a link to one."""
    try:
        return stat.S_ISCHR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def _is_camera(text: str) -> bool:
    """Whether an existing path is nevertheless the name of a camera."""
    return _is_device(text) or (text.isdecimal() and _exists(f"/dev/video{text}"))


def _path_of(url: str) -> str:
    """The path of a file: URL (RFC 8089)."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise SourceError(f"{url}: expected file:///PATH with the path of a file on this machine", code="bad-address")
    return unquote(parts.path)


def open_synthetic(text: str) -> SyntheticSource:
    """A generated scene: "synthetic#size=640x480,fps=30,seed=0"."""
    name, options = split_options(text, {"size": "640x480", "fps": "30", "seed": "0"})
    seed = options.get("seed", "0")
    if not seed.isdecimal():
        raise UsageError(f"seed={seed}: expected a whole number from 0")
    size_hw, rate = parse_size(options.get("size", "640x480")), parse_rate(options.get("fps", "30"))
    return SyntheticSource(name, size_hw=size_hw, fps=rate, seed=int(seed))


def open_photograph(text: str) -> PhotographSource:
    """A view that moves over the bundled photographs: "photograph#size=640x480,fps=30".

    Raises:
        SourceError: If they are not installed.
    """
    name, options = split_options(text, {"size": "640x480", "fps": "30"})
    photographs = [path for model in list_shipped() for path in model.photographs]
    if not photographs:
        raise SourceError(
            f"{name}: the photographs come with the people model: pip install edge-mrcnn-people", code="missing"
        )
    size_hw, rate = parse_size(options.get("size", "640x480")), parse_rate(options.get("fps", "30"))
    return PhotographSource(name, photographs, size_hw=size_hw, fps=rate)


GENERATED = {"synthetic": open_synthetic, "photograph": open_photograph}
"""Name of a source that needs neither a camera nor a file of the user -> function that opens it."""


def open_file(text: str) -> Source:
    """A video file, an image, a folder of either or a glob pattern.

    Raises:
        SourceError: If it is missing, empty or damaged.
    """
    path = Path(text)
    if path.is_dir():
        return open_several(text, sorted(path.iterdir()))
    if not path.exists() and glob.has_magic(text):
        return open_several(text, sorted(map(Path, glob.glob(text, recursive=True))))
    if not path.is_file():
        raise SourceError(
            f"{text}: no such file; expected a camera number, a URL, a video, an image or a folder", code="missing"
        )
    return ImageSource(text, [path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoSource(path)


def open_several(text: str, paths: Sequence[Path]) -> Source:
    """The images among some files; without images, the videos, one after another.

    Args:
        text: Text of the user: a folder or a glob pattern.
        paths: Matching paths, in order.

    Raises:
        SourceError: If there is neither an image nor a video, or no video can be decoded.
    """
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    videos = [path for path in paths if is_recording(path)]
    if images:
        if videos:
            left_out = "1 video" if len(videos) == 1 else f"{len(videos)} videos"
            here = f"reads {len(images)} images" if len(images) > 1 else "reads 1 image"
            kind = f"*{videos[0].suffix}"
            logger.warning("%s: %s and skips %s; for videos give a pattern such as '%s'", text, here, left_out, kind)
        return ImageSource(text, images)
    if videos:
        return PlaylistSource(text, videos)
    hint = f"; for its subfolders: '{Path(text) / '**'}'" if Path(text).is_dir() else ""
    known = ", ".join((*IMAGE_SUFFIXES, ".mp4"))
    raise SourceError(
        f"{text}: no images or videos in this folder; known suffixes are {known} and others{hint}", code="missing"
    )

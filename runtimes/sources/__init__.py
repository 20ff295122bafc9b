"""Where pictures come from: camera, network stream, video file, image, folder, generated scene.

A source is iterated; each iteration opens a fresh handle, so that a lost stream is read on by iterating again.
Timing, dropping and reconnecting are the business of `runtimes.stream`. Passwords never reach a message.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from runtimes.errors import SourceError, UsageError
from runtimes.sources.address import parse_rate, parse_size, split_label, split_options
from runtimes.sources.base import CODES, Frame, Source
from runtimes.sources.files import IMAGE_SUFFIXES, ImageSource, VideoSource, expect_images
from runtimes.sources.live import LiveSource, open_camera, open_csi, open_gstreamer, open_network, open_picamera
from runtimes.sources.synthetic import SyntheticSource

__all__ = [
    "CODES",
    "IMAGE_SUFFIXES",
    "Frame",
    "ImageSource",
    "LiveSource",
    "Source",
    "SyntheticSource",
    "VideoSource",
    "open_source",
    "open_sources",
]

LIVE = (
    (re.compile(r"\d+(#|$)|/dev/video"), open_camera),
    (re.compile(r"csi://", re.IGNORECASE), open_csi),
    (re.compile(r"picamera://", re.IGNORECASE), open_picamera),
    (re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE), open_network),
    (re.compile(r".+\s!\s"), open_gstreamer),
)
"""Beginning of a text -> what opens it; the first that fits."""


def open_sources(texts: Sequence[str]) -> dict[str, Source]:
    """Several sources by name: the label of `LABEL=SOURCE`, or else what the source is, numbered where two are equal.

    Raises:
        SourceError: As `open_source`.
        UsageError: If two have the same label, or an option is not known.
    """
    named: dict[str, Source] = {}
    for text in texts:
        label, source = open_labelled(text)
        if label in named:
            raise UsageError(f"--source {label}=...: two sources have this name")
        name, number = label or source.name, 1
        while name in named:
            number += 1
            name = f"{source.name} ({number})"
        named[name] = source
    return named


def open_labelled(text: str) -> tuple[str, Source]:
    """The label of a source, or "", and the source."""
    label, rest = split_label(text)
    if not label or Path(text).exists():
        return "", open_source(text)
    return label, open_source(rest)


def open_source(text: str | Path) -> Source:
    """Find out what a text names and check what can be checked without waiting.

    Args:
        text: A camera ("0", "/dev/video0", "csi://0", "picamera://0"), a URL, a GStreamer pipeline, "synthetic", a
            video file, an image, a folder of images or a glob pattern. Options of cameras and streams follow a "#":
            "0#size=1280x720,fps=30,format=MJPG", "rtsp://host/live#transport=udp", "synthetic#fps=10".

    Raises:
        SourceError: If a file is missing, a folder is empty, a video cannot be decoded or an address not understood.
        UsageError: If there is no text, or an option is not known.
    """
    text = str(text)
    if not text.strip():
        raise UsageError("the source has no name; is a variable empty? It is a camera number, a URL or a file")
    for pattern, open_live in LIVE:
        if pattern.match(text):
            return open_live(text)
    if re.match(r"synthetic(#|$)", text):
        return open_synthetic(text)
    return open_file(text)


def open_synthetic(text: str) -> SyntheticSource:
    """A generated scene: "synthetic#size=640x480,fps=30,seed=0"."""
    name, options = split_options(text, {"size": "640x480", "fps": "30", "seed": "0"})
    seed = options.get("seed", "0")
    if not seed.isdecimal():
        raise UsageError(f"seed={seed}: expected a whole number from 0")
    size_hw, rate = parse_size(options.get("size", "640x480")), parse_rate(options.get("fps", "30"))
    return SyntheticSource(name, size_hw=size_hw, fps=rate, seed=int(seed))


def open_file(text: str) -> Source:
    """A video file, an image, a folder of images or a glob pattern.

    Raises:
        SourceError: If it is missing, empty or damaged.
    """
    path = Path(text)
    if path.is_dir():
        return ImageSource(text, expect_images(text, sorted(path.iterdir())))
    if not path.exists() and glob.has_magic(text):
        return ImageSource(text, expect_images(text, sorted(map(Path, glob.glob(text, recursive=True)))))
    if not path.is_file():
        raise SourceError(
            f"{text}: no such file; a source is a camera number, a URL, a video, an image or a folder", code="missing"
        )
    return ImageSource(text, [path]) if path.suffix.lower() in IMAGE_SUFFIXES else VideoSource(path)

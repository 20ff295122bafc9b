"""Defaults of a command without model, source and output: enough to see masks at once."""

from __future__ import annotations

import os
import socket
import sys
import webbrowser
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edge_mrcnn.live.outputs.page import PageSettings
from edge_mrcnn.live.outputs.recording import RecordingSettings
from edge_mrcnn.live.settings import LiveSettings
from runtimes.shipped import default_model
from runtimes.sources import ImageSource, Source

CAMERA = Path("/dev/video0")
"""The first camera, on Linux."""
PAGE_PORT = 8080
PAGE_LINE = "page: "
"""Start of the line that announces the address of the page."""


def choose_model(model: str | None) -> str:
    """The given model, or else the bundled one.

    Raises:
        UsageError: If there is none.
    """
    return model or default_model().name


def choose_sources(sources: Sequence[str]) -> tuple[str, ...]:
    """The given sources, or else the first camera, or else a view over photographs; a default is announced."""
    if sources:
        return tuple(sources)
    if has_camera():
        click.echo("source: camera 0", err=True)
        return ("0",)
    click.echo("source: photographs of people, because no camera was found", err=True)
    return ("photograph",)


def has_camera() -> bool:
    """Whether this machine may have a camera; only on Linux can this be checked without opening one."""
    return CAMERA.exists() if sys.platform == "linux" else True


def show_masks(settings: LiveSettings, sources: Sequence[Source]) -> LiveSettings:
    """Settings with an output if there was none: the page for a live source, a drawn copy for a file."""
    if any(chosen != type(chosen)() for chosen in settings.outputs.values()):
        return settings
    chosen: dict[str, Any] = {}
    if any(source.is_live for source in sources):
        chosen = {"page": PageSettings(web=f":{free_port()}")}
    elif len(sources) == 1:
        chosen = {"recording": RecordingSettings(save=drawn_path(sources[0]))}
    return replace(settings, outputs={**settings.outputs, **chosen})


def drawn_path(source: Source) -> Path:
    """Path of the drawn copy, in the current folder: `street-masks.jpg` for `street.jpg`."""
    if not isinstance(source, ImageSource):
        return Path(f"{Path(source.name).stem}-masks.mp4")
    if source.frame_count == 1:
        picture = source.paths[0]
        return Path(f"{picture.stem}-masks{picture.suffix}")
    return Path(f"{source.root.resolve().name}-masks")


def open_browser(greetings: Iterable[str]) -> None:
    """Open the page in a browser if the command was typed on a desktop; its address is printed in any case."""
    has_desktop = sys.platform != "linux" or "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    if not (has_desktop and sys.stderr.isatty()):
        return
    for line in greetings:
        if line.startswith(PAGE_LINE):
            webbrowser.open(line.removeprefix(PAGE_LINE))


def free_port() -> int:
    """`PAGE_PORT`, or 0 for any free port if that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PAGE_PORT))
        except OSError:
            return 0
    return PAGE_PORT

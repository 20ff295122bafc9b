"""Take the pictures of the live page in the documentation, by a headless Chromium.

    python benchmarks/live_pictures.py              # writes docs/images/live*.webp

`edge-mrcnn run` shows the people model on the photographs that are installed with it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import NamedTuple

import click
from PIL import Image

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ADDRESS = "http://127.0.0.1:8097/"
SECONDS = 12
"""Time between the start of the loop and the picture, so that the page has counts and a history."""
SIZE = "size=960x540,fps=6"
COUNTING = ("--source", f"door=photograph#{SIZE}", "--line", "gate=0.5,0,0.5,1", "--zone", "floor=0,0.5 1,0.5 1,1 0,1")


class Shot(NamedTuple):
    """One picture: its file, the options of `run`, the size of the window in pixels."""

    name: str
    options: tuple[str, ...]
    width: int
    height: int


SHOTS = (
    Shot("live", ("--source", f"photograph#{SIZE}", "--conf", "0.6"), 1280, 800),
    Shot("live-counting", (*COUNTING, "--conf", "0.6"), 1280, 800),
    Shot("live-phone", ("--source", f"photograph#{SIZE}", "--blur", "person", "--conf", "0.6"), 390, 844),
)


@click.command()
def take() -> None:
    """Write the pictures of the live page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise click.ClickException(f"none of {', '.join(BROWSERS)} is installed")
    for shot in SHOTS:
        command = [sys.executable, "-m", "edge_mrcnn", "run", "--model", "people", "--web", ADDRESS.split("/")[2]]
        loop = subprocess.Popen([*command, *shot.options], stdout=subprocess.DEVNULL)
        try:
            wait_until_healthy()
            time.sleep(SECONDS)
            photograph(browser, shot)
        finally:
            loop.terminate()
            loop.wait(timeout=30)


def wait_until_healthy(limit_s: float = 120) -> None:
    """Return when frames are processed.

    Raises:
        TimeoutError: If none was within the limit.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(f"{ADDRESS}healthz", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise TimeoutError(f"{ADDRESS}: no frame was processed within {limit_s:g} s")


def photograph(browser: str, shot: Shot) -> None:
    """Write what the browser shows of the page."""
    file = IMAGES / f"{shot.name}.webp"
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "shot.png")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=6000"]
        size = [f"--window-size={shot.width},{shot.height}", f"--screenshot={raw}"]
        subprocess.run([browser, *flags, *size, ADDRESS], check=True, capture_output=True, timeout=90)
        Image.open(raw).convert("RGB").save(file, quality=82, method=6)
    click.echo(f"wrote {file} ({file.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    take()

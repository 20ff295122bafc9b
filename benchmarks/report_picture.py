"""Take a picture of a report, or of some of its sections, by a headless Chromium.

    python benchmarks/report_picture.py report/report.html docs/images/report.png --section "Causes of the drop"

Photographs are left out, since the licence of a data set's images seldom allows them in a repository.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import numpy as np
from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
HEIGHT = 8000
"""Height of the browser's window in pixels; the empty part is cut off."""
COLORS = 256
"""Size of the palette: enough for smooth letters, at a third of the file size."""


@click.command()
@click.argument("report", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("picture", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--section", "sections", multiple=True, help="Heading to show, repeatable [default: all].")
@click.option("--width", default=1280, show_default=True, help="Of the window, in pixels.")
def take(report: Path, picture: Path, sections: tuple[str, ...], width: int) -> None:
    """Write a PNG of the page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise click.ClickException(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder, "page.html"), Path(folder, "shot.png")
        page.write_text(choose_sections(report.read_text(encoding="utf-8"), sections), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        size = [f"--window-size={width},{HEIGHT}", f"--screenshot={shot}"]
        subprocess.run([browser, *flags, *size, page.as_uri()], check=True, capture_output=True)
        image = cut_empty(np.asarray(Image.open(shot).convert("RGB")))
    Image.fromarray(image).quantize(COLORS, Image.Quantize.MAXCOVERAGE, kmeans=2).save(picture, optimize=True)
    click.echo(f"wrote {picture} ({picture.stat().st_size / 1e3:.0f} kB)")


def choose_sections(page: str, sections: tuple[str, ...]) -> str:
    """The page without photographs and with the chosen sections only; the header is kept if all sections are shown."""
    page = re.sub(r"<section class=\"card strip\">.*?</section>", "", page, flags=re.DOTALL)
    head, *parts = re.split(r"(?=<h2>)", page)
    titles = [re.match(r"<h2>(.*?)</h2>", part)[1] for part in parts]
    if missing := set(sections) - set(titles):
        raise click.UsageError(f"no section {', '.join(sorted(missing))}; there are {', '.join(titles)}")
    if not sections:
        kept = [part for title, part in zip(titles, parts, strict=True) if title != "Pictures"]
        return head + "".join(kept)
    frame = head[: head.index("<main>")] + "<style>main { padding-top: 0; padding-bottom: 24px; }</style><main>"
    chosen = [part for title, part in zip(titles, parts, strict=True) if title in sections]
    return frame + "".join(chosen) + "</main></body></html>"


def cut_empty(image: np.ndarray) -> np.ndarray:
    """The image without the plain rows at its bottom, except for a margin."""
    busy = np.flatnonzero((image != image[-1:, :1]).any(axis=(1, 2)))
    return image[: min(len(image), int(busy[-1]) + 24)]


if __name__ == "__main__":
    take()

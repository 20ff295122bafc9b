"""Time to read a model file's card: without an SDK, and by opening the file.

    python benchmarks/card_reading.py best.onnx best-int8.xml best.tflite

"card" is `ModelFile(path).card`: the file is read, its checksum verified, and the card found. "notes" is the last step
alone, on the bytes in memory. Both are medians of many runs in one process, with the files in the system's cache.
"command" is a new process that prints the card, most of which is starting Python with NumPy and OpenCV; "load" is
`runtimes.load`, SDK and first run included, in a new process too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from runtimes import ModelFile

TURNS = 50
PROCESSES = 3
READ = "import sys, runtimes; print(runtimes.read_card(sys.argv[1]).name)"
LOAD = "import sys, runtimes; print(runtimes.load(sys.argv[1]).card.name)"


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Print a table."""
    click.echo("| file | MB | card ms | of it notes ms | command ms | load ms |")
    click.echo("|---|---:|---:|---:|---:|---:|")
    for path in files:
        click.echo(measure(path))


def measure(path: Path) -> str:
    """A line of the table."""
    file = ModelFile(path)
    content = file.path.read_bytes()
    card_ms = median_ms(lambda: ModelFile(path).card, TURNS)
    notes_ms = median_ms(lambda: file.format.read_notes(content), TURNS)
    command_ms, load_ms = (median_ms(lambda: start(code, path), PROCESSES) for code in (READ, LOAD))  # noqa: B023
    size = f"{file.size_bytes / 1e6:.1f}"
    return f"| {file.name} | {size} | {card_ms:.1f} | {notes_ms:.2f} | {command_ms:.0f} | {load_ms:.0f} |"


def start(code: str, path: Path) -> None:
    """Run some Python in a process of its own."""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True)


def median_ms(work: Callable[[], object], turns: int) -> float:
    """The median time of some work, in milliseconds."""
    times = []
    for _ in range(turns):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


if __name__ == "__main__":
    main()

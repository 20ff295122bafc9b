"""Measure how time and memory grow with input size, proposals, detections and cameras.

    python benchmarks/growth.py -o runs/peers

nano-dense with random weights, INT8, one thread. The other settings and the folder are those of `benchmarks/peers.py`.
Each point is measured in a process of its own, Python and OpenCV included, which opens the file and runs it on one
frame. Cameras are generated scenes of 640 x 480 at 30 frames per second, taken as `run` takes them; age is the time
from a frame's arrival to its detections, by the wall clock.

The first run makes the files, which takes minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import click

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers import ours
from benchmarks.peers.pages import RUNTIMES
from benchmarks.peers.timing import CLOCKS
from edge_mrcnn.cli.options import comma_list
from edge_mrcnn.config import preset

ROOT = Path(__file__).parents[1]
Record = dict[str, float]


@dataclass(frozen=True)
class Point:
    """A file and a scene."""

    runtime: str
    size: int = 320
    proposals: int = 64
    objects: int = 5
    cameras: int = 0
    """0 is the network on one frame."""


AXES = {
    "size": (256, 320, 448, 640),
    "proposals": (16, 64, 256),
    "objects": (0, 5, 10, 20),
    "cameras": (1, 2, 3, 4),
}
"""Field of a point -> its values, while the other fields are as above."""
TITLES = {"size": "input, px", "proposals": "proposals", "objects": "detections", "cameras": "cameras on one model"}
COLORS = {"onnx": "#4477aa", "openvino": "#ee6677", "tflite": "#228833"}


@click.command()
@click.option("--model", default="nano-dense", show_default=True, help="Preset.")
@click.option("--runtimes", "names", default=",".join(RUNTIMES), show_default=True)
@click.option("--axes", default=",".join(AXES), show_default=True)
@click.option("--rounds", default=15, show_default=True, help="Runs of each network.")
@click.option("--frames", default=60, show_default=True, help="Of all cameras together.")
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="cpu", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/peers"), show_default=True)
def main(model: str, names: str, axes: str, rounds: int, frames: int, clock: str, output: Path) -> None:
    """Write growth.json, growth.md and growth.png into the folder."""
    points = dict.fromkeys(
        point for axis in comma_list(axes) for name in comma_list(names) for point in walk(axis, name)
    )
    found = {point: measure(point, model, output, rounds, frames, clock) for point in points}
    rows = [asdict(point) | record for point, record in found.items()]
    (output / "growth.json").write_text(json.dumps({"clock": clock, "rounds": rounds, "rows": rows}, indent=1))
    tables = [write_table(axis, comma_list(names), found, clock) for axis in comma_list(axes)]
    (output / "growth.md").write_text("\n".join(tables))
    draw_chart(comma_list(axes), comma_list(names), found, output / "growth.png", clock)
    click.echo((output / "growth.md").read_text())


def walk(axis: str, runtime: str) -> list[Point]:
    """The points of one axis."""
    return [replace(Point(runtime), **{axis: value}) for value in AXES[axis]]


def measure(point: Point, model: str, folder: Path, rounds: int, frames: int, clock: str) -> Record:
    """Measure a point in a process of its own."""
    file = make_file(point, model, folder)
    seed, threshold = ours.find_frame(file, point.objects)
    order = {"seed": seed, "rounds": rounds, "clock": clock}
    if point.cameras:
        order = {"cameras": point.cameras, "frames": frames}
    with TemporaryDirectory() as scratch:
        order["file"] = str(ours.set_threshold(file, threshold, Path(scratch)))
        command = [sys.executable, "-m", "benchmarks.peers.point", json.dumps(order)]
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    record: Record = json.loads(result.stdout)
    click.echo(f"{point}: {record}", err=True)
    return record


def make_file(point: Point, model: str, folder: Path) -> Path:
    """The INT8 file of a point, made if it is not there."""
    name = model
    if point.proposals != preset(model).proposals:
        name = f"{model}-p{point.proposals}"
        ours.INVENTED[name] = preset(model).updated(proposals=point.proposals)
    ours.make_files(folder, name, point.size, [point.runtime])
    return ours.file_of(folder, name, point.size, point.runtime, "int8").absolute()


def write_table(axis: str, names: tuple[str, ...], found: dict[Point, Record], clock: str) -> str:
    """Milliseconds and MB of each runtime, a value of the axis in each row."""
    heads, cell = (
        (f"{clock} ms, MB", plain_cell) if axis != "cameras" else ("frames/s, age ms, cpu ms, MB", camera_cell)
    )
    lines = [f"| {TITLES[axis]} | " + " | ".join(f"{RUNTIMES[name]}: {heads}" for name in names) + " |"]
    lines += ["|---:|" + "---:|" * len(names)]
    for index, value in enumerate(AXES[axis]):
        cells = [cell(found[walk(axis, name)[index]]) for name in names]
        lines.append(f"| {value} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def plain_cell(record: Record) -> str:
    """Such as "10.2, 140"."""
    return f"{record['ms']:.1f}, {record['mb']:.0f}"


def camera_cell(record: Record) -> str:
    """Such as "28.1, 40, 21.3, 150"."""
    return f"{record['fps']:.1f}, {record['ms']:.0f}, {record['cpu_ms']:.1f}, {record['mb']:.0f}"


def draw_chart(
    axes: tuple[str, ...], names: tuple[str, ...], found: dict[Point, Record], file: Path, clock: str
) -> None:
    """Time above, memory below, an axis in each column."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure, grid = pyplot.subplots(2, len(axes), figsize=(2.4 * len(axes), 4.6), sharex="col", squeeze=False,
                                   layout="constrained")  # fmt: skip
    for axis, (above, below) in zip(axes, grid.T, strict=True):
        for name in names:
            records = [found[point] for point in walk(axis, name)]
            style = {"marker": "o", "markersize": 3, "color": COLORS[name], "label": RUNTIMES[name]}
            above.plot(AXES[axis], [record["ms"] for record in records], **style)
            below.plot(AXES[axis], [record["mb"] for record in records], **style)
        above.set_title("age of a frame, ms" if axis == "cameras" else f"network, {clock} ms", fontsize=9)
        below.set_title("peak memory, MB", fontsize=9)
        below.set(xlabel=TITLES[axis], xticks=AXES[axis])
        above.set_ylim(bottom=0), below.set_ylim(bottom=0)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(names), frameon=False)
    figure.savefig(file, dpi=170)
    pyplot.close(figure)


if __name__ == "__main__":
    main()

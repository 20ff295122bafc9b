"""Ours beside one-stage nano models, on every runtime, from a decoded 1080p frame to a picture and JSON.

    python benchmarks/peers.py --quick -o runs/peers
    python benchmarks/peers.py --presets nano,nano-dense,small-dense -o runs/peers

The peers are exported by the `ultralytics` package (AGPL), which lives in an environment of its own:

    python -m venv --system-site-packages runs/peers-venv  # of an environment with edge-mrcnn[all]
    runs/peers-venv/bin/pip install --no-deps -r benchmarks/peers/requirements.txt

All weights are random: a network's time does not depend on them. The scene does not depend on them either: our files
run with a score threshold at which exactly K objects are found in the frame, the peers' answers are replaced by ones
in which K objects are found by ten anchors each, and both go on with the same K boxes and masks. Both know 80 classes.

Contenders take turns, so that a busy second slows all of them alike; the median counts. Files are kept in the folder.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

import click
import cv2

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers import backbone, ours, pages, yolo
from benchmarks.peers.scene import draw_frame, place_objects
from benchmarks.peers.timing import CLOCKS, Stages
from edge_mrcnn.cli.options import comma_list


@dataclass(frozen=True)
class Case:
    """One contender in one scene."""

    model: str
    runtime: str
    precision: str
    size: int
    threads: int
    objects: int


@dataclass
class Trial:
    """A case and its times."""

    case: Case
    step: Callable[[], Stages]
    stages: list[Stages] = field(default_factory=list)

    def median(self, name: str) -> float:
        """Of one stage, in milliseconds."""
        return statistics.median(getattr(stage, name) for stage in self.stages)


@click.command()
@click.option("--presets", default="nano,nano-dense", show_default=True, help="Our presets, with commas.")
@click.option("--peers", default="yolo11n-seg,yolov8n-seg", show_default=True, help="Models of the peer; may be empty.")
@click.option("--runtimes", "names", default=",".join(pages.RUNTIMES), show_default=True)
@click.option("--precisions", default="fp32,int8", show_default=True)
@click.option("--sizes", default="320,640", show_default=True, help="Sides of the input, in pixels.")
@click.option("--threads", default="1,2", show_default=True)
@click.option("--objects", default="0,5,20", show_default=True)
@click.option("--rounds", default=9, show_default=True, help="Frames of each contender in each scene.")
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="wall", show_default=True)
@click.option("--quick", is_flag=True, help="INT8, one thread, 5 and 20 objects, the one preset and the one peer.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/peers"), show_default=True)
def main(
    presets: str, peers: str, names: str, precisions: str, sizes: str, threads: str, objects: str, rounds: int,
    clock: str, quick: bool, output: Path,
) -> None:  # fmt: skip
    """Write peers.json, peers.md and peers.png into the folder."""
    if quick:
        presets, peers, precisions, threads, objects = pages.OURS, pages.RIVAL, "int8", "1", "5,20"
    models, runtimes, counts = comma_list(presets) + comma_list(peers), comma_list(names), ints(objects)
    for model, size in product(models, ints(sizes)):
        side_of(model).make_files(output, model, size, runtimes)
    trials: list[Trial] = []
    for size, used in product(ints(sizes), ints(threads)):
        group = [Case(*parts, size, used, count)
                 for parts in product(models, runtimes, comma_list(precisions)) for count in counts]  # fmt: skip
        trials += race(group, output, rounds, clock)
    record = [asdict(t.case) | {name: t.median(name) for name in Stages.__dataclass_fields__} for t in trials]
    (output / "peers.json").write_text(json.dumps({"clock": clock, "rounds": rounds, "rows": record}, indent=1))
    (output / "peers.md").write_text(pages.write_tables(record, clock))
    pages.draw_chart(record, output / "peers.png", clock)
    click.echo((output / "peers.md").read_text())


def ints(text: str) -> list[int]:
    """Numbers with commas."""
    return [int(part) for part in comma_list(text)]


def side_of(model: str) -> object:
    """The module that makes and opens files of a model."""
    return yolo if model.startswith("yolo") else ours


def race(cases: Sequence[Case], folder: Path, rounds: int, clock: str) -> list[Trial]:
    """Time cases of one number of threads in turn, and the backbone of each of our files beside them."""
    limit_threads(cases[0].threads)
    frame = draw_frame()
    opened = [open_contender(case, folder, clock) for case in cases]
    trials = [Trial(case, lambda contender=contender: contender.process(frame))
              for case, contender in zip(cases, opened, strict=True)]  # fmt: skip
    trials += [
        open_floor(case, folder, clock)
        for case in cases
        if side_of(case.model) is ours and case.objects == cases[0].objects
    ]
    for trial in trials:
        trial.step()
    for round_ in range(rounds):
        for index in range(len(trials)):
            trial = trials[(index + round_) % len(trials)]
            trial.stages.append(trial.step())
    for contender in opened:
        contender.close()
    return trials


def open_contender(case: Case, folder: Path, clock: str) -> ours.Ours | yolo.Yolo:
    """Ready to process frames."""
    file = side_of(case.model).file_of(folder, case.model, case.size, case.runtime, case.precision)
    scene = place_objects(case.objects)
    if side_of(case.model) is ours:
        return ours.Ours(file, scene, case.threads, CLOCKS[clock])
    return yolo.Yolo(file, case.size, scene, case.threads, CLOCKS[clock])


def open_floor(case: Case, folder: Path, clock: str) -> Trial:
    """The backbone alone."""
    file = ours.file_of(folder, case.model, case.size, case.runtime, case.precision)
    run, tick = backbone.open_backbone(file, case.threads), CLOCKS[clock]

    def step() -> Stages:
        start = tick()
        run()
        spent = 1e3 * (tick() - start)
        return Stages(network=spent, results=spent, finished=spent)

    floor = Case(f"{case.model}'s backbone", case.runtime, case.precision, case.size, case.threads, 0)
    return Trial(floor, step)


def limit_threads(count: int) -> None:
    """Of what surrounds the networks."""
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


if __name__ == "__main__":
    main()

"""Ours beside one-stage nano models, on every runtime, from a decoded 1080p frame to a picture and JSON.

    python benchmarks/peers.py --quick -o runs/peers
    python benchmarks/peers.py --presets nano,nano-dense,small-dense -o runs/peers
    python benchmarks/peers.py --presets "" --weights runs/people/best.pt,runs/dense/best.pt -o runs/peers

The peers are exported by the `ultralytics` package (AGPL), which lives in a folder of its own:

    pip install --no-deps --target runs/peers-packages -r benchmarks/peers/requirements.txt
    export PYTHONPATH=runs/peers-packages

Presets and peers have random weights: a network's time does not depend on them. The scene does not depend on them
either: our files run with a score threshold at which exactly K objects are found in the frame, the peers' answers are
replaced by ones in which K objects are found by ten anchors each, and both go on with the same K boxes and masks. Both
know 80 classes; a trained model knows its own, and where it finds no K objects in any frame it is left out.
"torchvision" is torchvision's Mask R-CNN as it exports, its network only.

Contenders take turns, so that a busy second slows all of them alike; the median counts. Files are kept in the folder.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import cv2

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.peers import backbone, ours, pages, stock, yolo
from benchmarks.peers.scene import place_objects
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

    def record(self) -> dict[str, Any]:
        """The case and the median of each stage, in milliseconds."""
        names = Stages.__dataclass_fields__
        return asdict(self.case) | {name: statistics.median(getattr(s, name) for s in self.stages) for name in names}


@click.command()
@click.option("--presets", default="nano,nano-dense", show_default=True, help="Our presets, with commas.")
@click.option("--weights", default="", help="Trained checkpoints, with commas.")
@click.option("--peers", default="yolo11n-seg,yolov8n-seg,torchvision", show_default=True, help="May be empty.")
@click.option("--runtimes", "names", default=",".join(pages.RUNTIMES), show_default=True)
@click.option("--precisions", default="fp32,int8", show_default=True)
@click.option("--sizes", default="320,640", show_default=True, help="Sides of the input, in pixels.")
@click.option("--threads", default="1,2", show_default=True)
@click.option("--objects", default="0,5,20", show_default=True)
@click.option("--rounds", default=9, show_default=True, help="Frames of each contender in each scene.")
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="wall", show_default=True)
@click.option("--quick", is_flag=True, help="INT8, one thread, 5 and 20 objects, one preset, one peer.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/peers"), show_default=True)
def main(
    presets: str, weights: str, peers: str, names: str, precisions: str, sizes: str, threads: str, objects: str,
    rounds: int, clock: str, quick: bool, output: Path,
) -> None:  # fmt: skip
    """Write peers.json, peers.md and peers.png into the folder."""
    if quick:
        presets, peers, precisions, threads, objects = pages.OURS, pages.RIVAL, "int8", "1", "5,20"
    trained = tuple(ours.enter_checkpoint(Path(file)) for file in comma_list(weights))
    models, runtimes, counts = comma_list(presets) + trained + comma_list(peers), comma_list(names), ints(objects)
    for model, size in product(models, ints(sizes)):
        side_of(model).make_files(output, model, size, runtimes)
    rows: list[dict[str, Any]] = []
    for size, used in product(ints(sizes), ints(threads)):
        group = [Case(*parts, size, used, count)
                 for parts in product(models, runtimes, comma_list(precisions)) for count in counts]  # fmt: skip
        rows += race(list(filter(is_possible, group)), output, rounds, clock)
    (output / "peers.json").write_text(json.dumps({"clock": clock, "rounds": rounds, "rows": rows}, indent=1))
    (output / "peers.md").write_text(pages.write_tables(rows, clock))
    pages.draw_chart(rows, output / "peers.png", clock)
    click.echo((output / "peers.md").read_text())


def ints(text: str) -> list[int]:
    """Numbers with commas."""
    return [int(part) for part in comma_list(text)]


def side_of(model: str) -> ModuleType:
    """The module that makes and opens the files of a model."""
    return stock if model == stock.NAME else yolo if model.startswith("yolo") else ours


def is_possible(case: Case) -> bool:
    """Whether the model has such a file."""
    return case.model != stock.NAME or stock.is_possible(case.runtime, case.precision)


def race(cases: Sequence[Case], folder: Path, rounds: int, clock: str) -> list[dict[str, Any]]:
    """Time cases of one number of threads in turn, and the backbone of each of our files beside them.

    All of them are open at the same time, some 60 MB each, and none afterwards.
    """
    limit_threads(cases[0].threads)
    trials = [trial for case in cases if (trial := open_trial(case, folder, clock))]
    floors = dict.fromkeys(replace(trial.case, objects=0) for trial in trials if side_of(trial.case.model) is ours)
    trials += [open_floor(case, folder, clock) for case in floors]
    for trial in trials:
        trial.step()
    for round_ in range(rounds):
        for index in range(len(trials)):
            trial = trials[(index + round_) % len(trials)]
            trial.stages.append(trial.step())
    return [trial.record() for trial in trials]


def open_trial(case: Case, folder: Path, clock: str) -> Trial | None:
    """The function that processes frames; None, with a message, if the model finds too few objects."""
    side, scene = side_of(case.model), place_objects(case.objects)
    file = side.file_of(folder, case.model, case.size, case.runtime, case.precision)
    if side is stock:
        return Trial(case, time_alone(stock.open_network(file, case.size, case.objects, case.threads), clock))
    try:
        kind = yolo.Yolo if side is yolo else ours.Ours
        return Trial(case, kind(file, case.size, scene, case.threads, CLOCKS[clock]).process)
    except ours.TooFewObjects as reason:
        click.echo(f"left out: {reason}", err=True)
        return None


def open_floor(case: Case, folder: Path, clock: str) -> Trial:
    """The backbone alone."""
    file = ours.file_of(folder, case.model, case.size, case.runtime, case.precision)
    step = time_alone(backbone.open_backbone(file, case.threads), clock)
    return Trial(replace(case, model=f"{case.model}'s backbone"), step)


def time_alone(run: Callable[[], object], clock: str) -> Callable[[], Stages]:
    """A case in which only the network is timed."""
    tick = CLOCKS[clock]

    def step() -> Stages:
        start = tick()
        run()
        spent = 1e3 * (tick() - start)
        return Stages(network=spent, results=spent, finished=spent)

    return step


def limit_threads(count: int) -> None:
    """The names of the stages around the networks."""
    import torch

    torch.set_num_threads(count)
    cv2.setNumThreads(count)


if __name__ == "__main__":
    main()

"""Measure the gain of a training on few pictures that starts from the included people model.

    python benchmarks/start_from_people.py --data DIR -o runs/start

DIR holds the folders balloon, ccp and coco80 in COCO's layout. Each cell of the table is trained by `edge-mrcnn
train`, with the same number of steps from people's weights and from random ones. It shows the mean of the seeds. Rows
are written to rows.jsonl one by one. The same command resumes an interrupted run; `--table` only prints the table.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

Row = dict[str, Any]
ROOT = Path(__file__).parents[1]


class Task(NamedTuple):
    """A data set, and the number of pictures of a training."""

    folder: str
    images: int
    steps: int
    """Steps of the training, in batches of 8."""
    judges: int
    """Number of pictures of the val split for AP."""


TASKS = (
    Task("balloon", 18, 90, 13),
    Task("balloon", 61, 120, 13),
    Task("ccp", 10, 90, 100),
    Task("ccp", 50, 120, 100),
    Task("ccp", 402, 250, 100),
    Task("coco80", 337, 250, 157),
)
COMMON = "--imgsz 320 --batch 8 --optimizer adamw --lr 1e-3 --rois 64 --warmup-steps 20 --device cpu --workers 1"
STARTS = {
    "people": "--weights people --backbone-lr-factor 0.3 --freeze-norm",
    "nothing": "--model nano-dense --backbone repvgg_deep",
}
"""Initial weights -> options of `train`."""
SEEDS = (0, 1, 2)


def cells() -> Iterator[tuple[Task, str, int]]:
    """All trainings, seed by seed."""
    for seed in SEEDS:
        for task in TASKS:
            for start in STARTS:
                yield task, start, seed


def key(row: Row) -> tuple[Any, ...]:
    """The key of a training."""
    return row["data"], row["images"], row["start"], row["seed"]


def take_images(source: Path, count: int, seed: int, target: Path) -> None:
    """Write COCO annotations of a random sample of pictures, with absolute paths."""
    record = json.loads(source.read_text())
    folder = (source.parents[1] / "images" / source.stem.removeprefix("instances_")).resolve()
    images = record["images"]
    if count < len(images):
        images = random.Random(seed).sample(images, count)
    chosen = {image["id"] for image in images}
    record["images"] = [{**image, "file_name": str(folder / image["file_name"])} for image in images]
    record["annotations"] = [one for one in record["annotations"] if one["image_id"] in chosen]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record))


def train_one(task: Task, start: str, seed: int, data: Path, output: Path) -> Row:
    """Train one cell and measure it."""
    name = f"{task.folder}-{task.images}-{start}-{seed}"
    annotations = data / task.folder / "annotations"
    train, val = output / "data" / f"{name}.json", output / "data" / f"{task.folder}-val.json"
    take_images(annotations / "instances_train.json", task.images, seed, train)
    take_images(annotations / "instances_val.json", task.judges, 0, val)
    epochs = -(-task.steps * 8 // task.images)
    words = f"{COMMON} {STARTS[start]} --max-steps {task.steps} --epochs {epochs} --seed {seed}"
    folder = output / name
    command = [sys.executable, "-m", "edge_mrcnn", "train", "--data", train, *words.split()]
    subprocess.run([*command, "-o", folder, "--overwrite"], check=True, cwd=ROOT, capture_output=True, text=True)
    box, mask = measure(folder / "best.pt", val)
    row = {"data": task.folder, "images": task.images, "start": start, "seed": seed, "box": box, "mask": mask}
    for file in folder.iterdir():  # the weights of all trainings would fill a disk
        if file.suffix in (".pt", ".ckpt"):
            file.unlink()
    return row


def measure(weights: Path, val: Path) -> tuple[float, float]:
    """Box and mask AP."""
    sys.path.insert(0, str(ROOT))
    from edge_mrcnn.data.loading import load
    from edge_mrcnn.report.models import open_model

    opened = open_model(weights, device="cpu")
    with opened.runtime:
        found = opened.evaluate(load(str(val), "val"))
    return found.box.ap, found.mask.ap


def table(rows: list[Row]) -> str:
    """Mean box and mask AP of the seeds, in points."""
    lines = ["| data | images | from people | from nothing | seeds |", "|---|---:|---:|---:|---:|"]
    for task in TASKS:
        shown = []
        counts = []
        for start in STARTS:
            own = [r for r in rows if (r["data"], r["images"], r["start"]) == (task.folder, task.images, start)]
            counts.append(len(own))
            means = [100 * statistics.mean(r[kind] for r in own) for kind in ("box", "mask")] if own else []
            shown.append(" / ".join(f"{mean:.1f}" for mean in means) or "–")
        lines.append(f"| {task.folder} | {task.images} | {' | '.join(shown)} | {min(counts)} |")
    return "\n".join(lines)


@click.command()
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/start"), show_default=True)
@click.option("--seeds", default=len(SEEDS), show_default=True, help="Number of seeds.")
@click.option("--table", "only_table", is_flag=True, help="Show what is there.")
def main(data: Path, output: Path, seeds: int, only_table: bool) -> None:
    """Train the missing cells, and print the table."""
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    file = output / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    done = {key(row) for row in rows}
    for task, start, seed in cells():
        is_done = (task.folder, task.images, start, seed) in done
        if only_table or is_done or seed >= seeds:
            continue
        row = train_one(task, start, seed, data.resolve(), output)
        click.echo(f"{row['data']} {row['images']} from {start}, seed {seed}: {row['box']:.3f} / {row['mask']:.3f}")
        with file.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        rows.append(row)
    click.echo(table(rows))


if __name__ == "__main__":
    main()

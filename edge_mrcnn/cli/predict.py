"""`edge-mrcnn predict`: images in; drawn images and COCO results out."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import click

import runtimes
from edge_mrcnn.cli.defaults import choose_model
from edge_mrcnn.cli.options import name_next
from edge_mrcnn.measure.files import file_number
from edge_mrcnn.tune.choice import resolve_model
from runtimes import UsageError
from runtimes.draw import draw_detections
from runtimes.model_file import ModelFile
from runtimes.output_paths import expect_apart, expect_writable, free_path
from runtimes.sinks import write_image
from runtimes.sources import ImageSource, open_source

RESULTS = "predictions.json"


@click.command()
@click.option(
    "--model", help="A .onnx, .xml or .tflite that `export` or `quantize` wrote  [default: people, which comes along]"
)
@click.option("--source", required=True, help="Image, folder of images or glob pattern.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("runs/predict"), show_default=True,
    help="Folder for the results.",
)  # fmt: skip
@click.option("--conf", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Lowest score that counts.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice].")
@click.option("--device", help="OpenVINO: gpu, npu, ...; ONNX: cuda or tensorrt [default: the CPU].")
def command(
    model: str | None, source: str, output: Path, conf: float, threads: int | None, device: str | None
) -> None:  # fmt: skip
    """Find objects in images; draw them and write COCO results."""
    images = open_source(source)
    if not isinstance(images, ImageSource):
        raise UsageError(f"--source {source}: expected images; for a camera or a video: edge-mrcnn run")
    names = relative_names(images.paths)
    ids = image_ids(names)
    path, options = resolve_model(choose_model(model), threads=threads, device=device)
    expect_apart([("-o", output)], [*images.reads(), path, *ModelFile(path).files])
    expect_writable(output)
    output = free_path(output)
    records: list[dict[str, object]] = []
    with runtimes.load(path, **options) as runtime:
        for frame in images:
            found = runtime.infer(frame.image)
            found = found[found.scores >= conf]
            name = names[frame.index]
            write_image(output / name, draw_detections(frame.image, found))
            records += found.to_coco(ids[name])
            click.echo(f"{name}: {summarize(found.labels.tolist(), found.names)}")
    output.mkdir(parents=True, exist_ok=True)  # where not one image could be read
    (output / RESULTS).write_text(json.dumps(records))
    click.echo(f"wrote {output / RESULTS}: {len(records)} detections in {len(names)} images, drawn beside it")
    named = ("--model", model) if model else ()
    name_next("run", *named, "--source", 0)


def relative_names(paths: list[Path]) -> list[str]:
    """Each path relative to the folder that holds them all, with forward slashes."""
    folders = {path.parent for path in paths}
    root = Path(os.path.commonpath(folders))
    return [path.relative_to(root).as_posix() for path in paths]


def image_ids(names: list[str]) -> dict[str, int | str]:
    """COCO image ids: the number that each file is named by, where all are, or else the names themselves."""
    ids: dict[str, int | str] = {}
    for name in names:
        number = file_number(Path(name))
        if number is not None:
            ids[name] = number
    distinct = set(ids.values())
    if len(distinct) < len(names):
        return {name: name for name in names}
    return ids


def summarize(labels: list[int], names: tuple[str, ...]) -> str:
    """Such as "2 person, 1 car"."""
    if not labels:
        return "nothing found"
    counts = Counter(labels)
    return ", ".join(f"{counts[label]} {names[label]}" for label in sorted(counts))

"""`edge-mrcnn predict`: images in; drawn images and COCO results out."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

import runtimes
from edge_mrcnn.cli.defaults import choose_model
from edge_mrcnn.cli.options import name_next, tile_options
from edge_mrcnn.data.collection import Collection
from edge_mrcnn.live.classes import choose_labels
from edge_mrcnn.live.outputs.base import Output
from edge_mrcnn.live.outputs.json_lines import JsonLines
from edge_mrcnn.live.outputs.text_file import STANDARD_OUTPUT
from edge_mrcnn.live.outputs.yolo_labels import YoloLabels
from edge_mrcnn.live.privacy import Privacy, PrivacySettings
from edge_mrcnn.live.result import LiveResult
from edge_mrcnn.measure.files import file_number
from edge_mrcnn.tables import counted
from edge_mrcnn.tune.choice import resolve_model
from runtimes import Detections, ModelCard, UsageError
from runtimes.draw import draw_detections
from runtimes.model_file import ModelFile
from runtimes.output_paths import expect_apart, expect_writable, free_path
from runtimes.sinks import write_image
from runtimes.sources import Frame, ImageSource, open_source
from runtimes.tiling import tile_model

RESULTS = "predictions.json"


@click.command()
@click.option(
    "--model", help="Exported model (.onnx, .xml or .tflite), or `people`, the bundled one.  [default: people]"
)
@click.option("--source", required=True, help="Image, folder of images, or glob pattern.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path("runs/predict"), show_default=True,
    help="Output folder.",
)  # fmt: skip
@click.option("--conf", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Score threshold.")
@click.option("--classes", multiple=True, metavar="NAME,...", help="Keep only these classes.")
@click.option("--exclude", multiple=True, metavar="NAME,...", help="Leave out these classes.")
@click.option("--blur", multiple=True, metavar="NAME,...", help="Blur objects of these classes in all written images.")
@click.option(
    "--hide", multiple=True, metavar="NAME,...", help="Cover objects of these classes with plain grey instead."
)
@click.option("--blur-conf", type=click.FloatRange(0, 1), help="Score threshold of --blur and --hide [default: 0.1].")
@click.option(
    "--json",
    "json_lines",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write detections as JSON lines, one per image; - for standard output.",
)
@click.option(
    "--save-txt",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write YOLO segmentation labels to this folder, one text file per image.",
)
@click.option(
    "--coco-dataset",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write images and predictions as a COCO data set, for correction in CVAT or Label Studio and for training.",
)
@click.option(
    "--rle", is_flag=True, help="Encode the masks of --coco-dataset as RLE, which keeps holes, instead of polygons."
)
@click.option(
    "--pixel-size",
    type=click.FloatRange(0, min_open=True),
    metavar="MM",
    help="Side of a pixel in mm at the objects; adds areas in mm2 to --json.",
)
@tile_options
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice].")
@click.option("--device", help="Device. OpenVINO: gpu, npu, ...; ONNX: cuda, tensorrt, openvino, ... [default: CPU].")
def command(
    model: str | None, source: str, output: Path, conf: float, classes: tuple[str, ...], exclude: tuple[str, ...],
    blur: tuple[str, ...], hide: tuple[str, ...], blur_conf: float | None, json_lines: Path | None,
    save_txt: Path | None, coco_dataset: Path | None, rle: bool, pixel_size: float | None, tile: int | None,
    overlap: float, threads: int | None, device: str | None,
) -> None:  # fmt: skip
    """Detect objects in images. Writes the images with masks drawn, and COCO results."""
    images = open_source(source)
    if not isinstance(images, ImageSource):
        raise UsageError(f"--source {source}: expected images; for a camera or a video: edge-mrcnn run")
    path, options = resolve_model(choose_model(model), threads=threads, device=device)
    reads = [*images.reads(), path, *ModelFile(path).files]
    writes = {"-o": output, "--json": json_lines, "--save-txt": save_txt, "--coco-dataset": coco_dataset}
    expect_apart([(flag, one) for flag, one in writes.items() if one not in (None, STANDARD_OUTPUT)], reads)
    outputs = open_outputs(json_lines, save_txt, images, pixel_size)
    say = partial(click.echo, err=json_lines == STANDARD_OUTPUT)
    with runtimes.load(path, **options) as opened, ExitStack() as stack:
        runtime = tile_model(opened, tile, overlap)
        keeps = choose_labels(classes, exclude, runtime.card.classes)
        privacy = Privacy(PrivacySettings(blur=blur, hide=hide, conf=blur_conf), runtime.card, {"": images})
        collection = open_collection(coco_dataset, runtime.card, with_rle=rle)
        results = Results(output, images, outputs, collection, copies_files=not (blur or hide))
        stack.callback(results.close)
        for frame in images:
            found = runtime.infer(frame.image)
            covered = privacy.protect(frame, found)
            say(results.put(covered, found[keeps[found.labels] & (found.scores >= conf)]))
        for line in results.finish():
            say(line)
    named = ("--model", model) if model else ()
    name_next("run", *named, "--source", 0, err=json_lines == STANDARD_OUTPUT)


class Results:
    """Writes all results of the images."""

    def __init__(
        self,
        folder: Path,
        images: ImageSource,
        outputs: Sequence[Output],
        collection: Collection | None,
        *,
        copies_files: bool,
    ) -> None:
        """Prepare the outputs.

        Args:
            folder: Folder for drawn images and COCO results; an existing one is kept, and the new one gets a number.
            images: The source.
            outputs: Outputs shared with `run`.
            collection: The data set of predictions, if requested.
            copies_files: Whether the data set may contain copies of the files.

        Raises:
            UnavailableError: If the folder cannot be written.
        """
        expect_writable(folder)
        self._folder = free_path(folder)
        self._names = relative_names(images.paths)
        self._ids = image_ids(self._names)
        self._outputs = outputs
        self._collection = collection
        self._copies_files = copies_files
        self._records: list[dict[str, object]] = []

    def put(self, frame: Frame, found: Detections) -> str:
        """Add an image with its detections; returns a line about them."""
        name = self._names[frame.index]
        if self._collection:
            original = Path(frame.name) if self._copies_files else None
            self._collection.add(name, frame.image, found, original=original)
        for output in self._outputs:
            output.put(LiveResult(frame, found))
        write_image(self._folder / name, draw_detections(frame.image, found))
        self._records += found.to_coco(self._ids[name])
        return f"{name}: {summarize(found.labels.tolist(), found.names)}"

    def finish(self) -> Iterator[str]:
        """Write the result files; yields lines about them."""
        self._folder.mkdir(parents=True, exist_ok=True)  # if no image could be read
        path = self._folder / RESULTS
        path.write_text(json.dumps(self._records))
        detections, images = counted(len(self._records), "detection"), counted(len(self._names), "image")
        yield f"wrote {path}: {detections} in {images}, drawn in the same folder"
        for output in self._outputs:
            for written in output.written():
                yield f"wrote {written}"
        if self._collection:
            self._collection.write()
            pictures, objects = self._collection.counts
            found = f"{counted(objects, 'object')} in {counted(pictures, 'image')}"
            yield f"wrote {self._collection.path}: {found}, to be corrected"

    def close(self) -> None:
        """Close the outputs."""
        for output in self._outputs:
            output.close()


def open_collection(folder: Path | None, card: ModelCard, *, with_rle: bool) -> Collection | None:
    """The data set of --coco-dataset; an existing folder is kept, and the new one gets a number."""
    if folder is None:
        return None
    expect_writable(folder)
    return Collection(free_path(folder), card.classes, card.category_ids, with_rle=with_rle)


def open_outputs(
    json_lines: Path | None, save_txt: Path | None, images: ImageSource, pixel_mm: float | None
) -> list[Output]:
    """The outputs shared with `run`."""
    outputs: list[Output] = []
    if json_lines is not None:
        outputs.append(JsonLines(json_lines, lambda source: {}, pixel_mm=pixel_mm))
    if save_txt is not None:
        outputs.append(YoloLabels(save_txt, {"": images}))
    return outputs


def relative_names(paths: list[Path]) -> list[str]:
    """Each path relative to the common folder of all, with forward slashes."""
    folders = {path.parent for path in paths}
    root = Path(os.path.commonpath(folders))
    return [path.relative_to(root).as_posix() for path in paths]


def image_ids(names: list[str]) -> dict[str, int | str]:
    """COCO image ids: the number in each file name if all have a unique one, or else the names themselves."""
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

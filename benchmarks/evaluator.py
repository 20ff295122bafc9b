"""Check the evaluator: against published numbers, against pycocotools, and for memory.

    python benchmarks/evaluator.py --reference DIR
    python benchmarks/evaluator.py --data DATA --results predictions.json
    python benchmarks/evaluator.py --images 5000

DIR holds `instances_*.json`, `*fakebbox*_results.json`, `*fakesegm*_results.json` (from cocodataset/cocoapi) and
`published_numbers.json`. DATA and the results are what `edge-mrcnn predict` takes and writes. The images of the third
are generated, and never painted: an evaluator sees boxes and run lengths only. Exits 3 if one of the 24 published
numbers differs by more than 0.001 as printed, if a number differs from pycocotools' by more than 1e-6, or if the peak
of memory passes 1 GiB.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import math
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import click
import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from edge_mrcnn.benchmark.worker import peak_memory
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.evaluate import Evaluator
from edge_mrcnn.evaluation.matching import IouType
from edge_mrcnn.evaluation.metrics import STATS, coco_summary, drop_interval

PRINTED = 1e-3
"""Tolerance of numbers that were published with three decimals."""
EXACT = 1e-6
"""Tolerance beside pycocotools."""
LIMIT = 1 << 30
"""Bytes of memory that the evaluation of 5,000 images may take."""
SIZE_HW, CLASSES, OBJECTS, DETECTIONS = (480, 640), 80, 7, 50
IOU_TYPES: tuple[IouType, IouType] = ("bbox", "segm")
Record = dict[str, Any]


@click.command()
@click.option("--reference", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Published numbers.")
@click.option("--data", help="COCO JSON or folder, beside --results.")
@click.option("--results", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="COCO results.")
@click.option("--images", type=click.IntRange(min=1), help="Generated images to evaluate in memory.")
@click.pass_context
def check(
    context: click.Context, reference: Path | None, data: str | None, results: Path | None, images: int | None
) -> None:
    """Run each check whose option is given."""
    if not reference and not (data and results) and not images:
        raise click.UsageError("expected --reference, --data with --results, or --images")
    passed = [
        not reference or check_published(reference),
        not (data and results) or check_real(str(data), Path(str(results))),
        not images or check_memory(images),
    ]
    context.exit(0 if all(passed) else 3)


def check_published(folder: Path) -> bool:
    """Print our 24 numbers beside the published ones, and how far they are from pycocotools'."""
    published = _read(folder, "published_numbers.json")
    truth = _read(folder, "instances_*[0-9].json")
    agreeing, largest = 0, 0.0
    click.echo(f"{'':12}{'ours':>8}{'published':>12}")
    for iou_type in IOU_TYPES:
        results = _read(folder, f"*fake{iou_type}*_results.json")
        ours = coco_summary(truth, results, iou_type).by_name()
        largest = max(largest, _distance(truth, results, iou_type))
        for name in STATS:
            expected = published[iou_type][name]
            agrees = abs(round(ours[name], 3) - expected) <= PRINTED + 1e-9
            agreeing += agrees
            click.echo(f"{iou_type} {name:7}{ours[name]:8.3f}{expected:12.3f}{'' if agrees else '  differs'}")
    click.echo(f"{agreeing} of 24 numbers agree; largest difference from pycocotools {largest:.1e}")
    return agreeing == 24 and largest <= EXACT


def check_real(data: str, file: Path) -> bool:
    """Compare with pycocotools on a model's own predictions."""
    loaded, results = load(data, "val"), json.loads(file.read_text())
    seen = {result["image_id"] for result in results}
    truth = _as_record(loaded, [image for image in loaded.images if image.id in seen])
    distances = {iou_type: _distance(truth, results, iou_type) for iou_type in IOU_TYPES}
    click.echo(f"{len(results)} predictions on {len(seen)} images, {len(truth['annotations'])} objects")
    for iou_type, distance in distances.items():
        ap = coco_summary(truth, results, iou_type).ap
        click.echo(f"{iou_type} AP {ap:.6f}, largest difference from pycocotools' twelve numbers {distance:.1e}")
    return max(distances.values()) <= EXACT


def check_memory(count: int) -> bool:
    """Evaluate generated images with all metrics of a report, and print the peak memory of this process."""
    start = peak_memory()
    data = make_data(count)
    click.echo(f"{count} images, {sum(map(len, data.by_image.values()))} objects of {CLASSES} classes")
    click.echo(f"peak with libraries {_mib(start)}, with ground truth {_mib(peak_memory())}")
    evaluator = Evaluator(data, list(data.categories))
    seconds = 0.0
    for image in data.images:
        results = list(guess(data, image.id))
        begin = time.perf_counter()
        evaluator.add(image.id, results)
        seconds += time.perf_counter() - begin
    click.echo(f"matched: {1e3 * seconds / count:.2f} ms per image with {DETECTIONS} detections; {_mib(peak_memory())}")
    begin = time.perf_counter()
    evaluation = evaluator.finish({})
    click.echo(f"box AP {evaluation.box.ap:.4f}, mask AP {evaluation.mask.ap:.4f}")
    click.echo(f"AP and the cost of mistakes: {time.perf_counter() - begin:.1f} s; {_mib(peak_memory())}")
    begin = time.perf_counter()
    drop_interval(evaluation.mask_result, evaluation.mask_result)
    peak = peak_memory()
    click.echo(f"interval of one drop: {time.perf_counter() - begin:.1f} s; {_mib(peak)}, limit {_mib(LIMIT)}")
    return peak <= LIMIT


def make_data(count: int) -> CocoData:
    """Ellipses of many sizes and classes, with the density of COCO's own validation set."""
    rng = np.random.default_rng(0)
    images = tuple(CocoImage(i, Path(f"{i}.jpg"), SIZE_HW[1], SIZE_HW[0]) for i in range(1, count + 1))
    by_image = {image.id: [_ellipse(rng, image.id) for _ in range(rng.poisson(OBJECTS))] for image in images}
    return CocoData(Path("generated.json"), images, {c: f"class {c}" for c in range(1, CLASSES + 1)}, by_image)


def guess(data: CocoData, image_id: int) -> Iterator[Record]:
    """Detections of one image: its objects, moved a little, and random ones."""
    rng = np.random.default_rng(image_id)
    truths = data.annotations(image_id)
    for _ in range(DETECTIONS):
        near = truths[rng.integers(len(truths))] if truths and rng.random() < 0.4 else None
        shape = _ellipse(rng, image_id, near)
        yield {**shape, "score": round(float(rng.random() ** (2 if near else 6)), 6)}


def _ellipse(rng: np.random.Generator, image_id: int, near: Record | None = None) -> Record:
    height, width = SIZE_HW
    if near:
        x, y, w, h = np.array(near["bbox"]) * rng.normal(1, 0.03, 4)
    else:
        w, h = np.exp(rng.uniform(math.log(8), math.log(300), 2))
        x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    angle = np.linspace(0, 2 * np.pi, 40)
    outline = np.stack([x + w / 2 * (1 + np.cos(angle)), y + h / 2 * (1 + np.sin(angle))], axis=1)
    coded = rle.frPyObjects([outline.ravel().tolist()], height, width)[0]
    category = near["category_id"] if near else int(rng.integers(1, CLASSES + 1))
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": [float(v) for v in (x, y, w, h)],
        "area": float(rle.area(coded)),
        "iscrowd": 0,
        "segmentation": {"size": coded["size"], "counts": coded["counts"].decode()},
    }


def _distance(truth: Record, results: list[Record], iou_type: IouType) -> float:
    """Largest difference between our twelve numbers and pycocotools'; inf where only one can be measured."""
    other = "bbox" if iou_type == "segm" else "segmentation"  # with both, loadRes takes the box's area for a mask
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        found = coco.loadRes([{k: v for k, v in result.items() if k != other} for result in results])
        evaluation = COCOeval(coco, found, iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    pairs = zip(astuple(coco_summary(truth, results, iou_type)), evaluation.stats, strict=True)
    return max(math.inf if math.isnan(a) != (b < 0) else 0.0 if b < 0 else abs(a - b) for a, b in pairs)


def _as_record(data: CocoData, images: list[CocoImage]) -> Record:
    annotations = [annotation for image in images for annotation in data.annotations(image.id)]
    return {
        "images": [{"id": i.id, "width": i.width, "height": i.height} for i in images],
        # pycocotools takes id 0 for "not matched"
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
        "categories": [{"id": c, "name": name} for c, name in data.categories.items()],
    }


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f} MiB"


def _read(folder: Path, pattern: str) -> Any:
    files = sorted(folder.glob(pattern))
    if not files:
        raise click.UsageError(f"{folder}: expected a file named {pattern}")
    return json.loads(files[0].read_text())


if __name__ == "__main__":
    check()

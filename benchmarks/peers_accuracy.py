"""Train nano-dense and the one-stage yolo11n-seg on the same pictures, and compare their accuracy and time in INT8.

    python benchmarks/peers_accuracy.py --data DIR --epochs 100 --sizes 320,416 --device cuda -o runs/accuracy

Both start from random weights and see the same pictures equally often, at the same input size. Each tool uses its own
default augmentations and schedule. Each exports its model to INT8 with its own exporter, calibrated on pictures of the
train split. AP is measured by the evaluator of edge-mrcnn on the val split. The time is the mean over the val pictures
of what each tool reports for its steps before, in and after the network, up to boxes, classes, scores and masks. The
two models take turns on each picture.

ultralytics is under the AGPL. It lives in a folder of its own, see docs/speed.md. OUT/accuracy.json and accuracy.md
hold the results. The same command resumes an interrupted run: finished trainings and files are kept.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import runtimes
from benchmarks.peers.yolo import FORMATS as PEER_FORMATS
from edge_mrcnn.cli.options import comma_list
from edge_mrcnn.data import load
from edge_mrcnn.data.coco import CocoData, CocoImage, decode_mask
from edge_mrcnn.evaluation.coco_api import rle
from edge_mrcnn.evaluation.evaluate import Evaluator
from edge_mrcnn.tables import Table
from runtimes.preprocess import read_image

PRESET, PEER = "nano-dense", "yolo11n-seg"
LEAST_SCORE = 0.001
"""Lowest score of a detection that counts for AP, for both models."""
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}
ENVIRONMENT = {**os.environ, "YOLO_AUTOINSTALL": "false"}

Timed = tuple[list[dict[str, Any]], float]
"""COCO results of one picture, and the milliseconds that they took."""
Detect = Callable[[np.ndarray, int], Timed]
"""From a (H, W, 3) uint8 RGB picture and its id to its results."""


@dataclass(frozen=True)
class Point:
    """The results of one INT8 file."""

    model: str
    runtime: str
    size: int
    box_ap: float
    mask_ap: float
    ms: float
    """Mean time to results."""


@click.command(help=__doc__)
@click.option("--data", required=True, help="COCO data with the splits train and val.")
@click.option("--epochs", default=100, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--sizes", default="320,416", show_default=True, help="Input sizes in pixels.")
@click.option("--runtimes", "names", default=",".join(SUFFIXES), show_default=True)
@click.option("--device", default="cpu", show_default=True, help="Device of the trainings.")
@click.option("--workers", default=2, show_default=True)
@click.option("--calib-images", default=256, show_default=True)
@click.option("--limit", type=int, help="Use at most this many pictures of the val split.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("runs/accuracy"), show_default=True)
def main(
    data: str, epochs: int, batch: int, sizes: str, names: str, device: str, workers: int, calib_images: int,
    limit: int | None, output: Path,
) -> None:  # fmt: skip
    output = output.resolve()
    targets = comma_list(names)
    points: list[Point] = []
    for size in map(int, comma_list(sizes)):
        ours = train_ours(data, size, epochs, batch, device, workers, output)
        theirs = train_peer(data, size, epochs, batch, device, workers, output)
        export_ours(ours, data, targets, calib_images)
        files = {target: export_peer(theirs, target, size, output) for target in targets}
        for target in targets:
            models = {
                PRESET: open_ours(ours.parent / f"best-int8{SUFFIXES[target]}"),
                PEER: open_peer(files[target], size),
            }
            points += measure(models, load(data, "val"), target, size, limit)
            write_results(points, epochs, output)


def train_ours(data: str, size: int, epochs: int, batch: int, device: str, workers: int, output: Path) -> Path:
    """Train the preset with the command line; returns its checkpoint."""
    folder = output / f"{PRESET}-{size}"
    if not (folder / "best.pt").is_file():
        options = {"imgsz": size, "epochs": epochs, "batch": batch, "device": device, "workers": workers}
        run_command("train", "--data", data, "--model", PRESET, "--eval-every", epochs, *flags(options), "-o", folder)
    return folder / "best.pt"


def flags(options: dict[str, object]) -> Iterator[object]:
    """Options and their values, one after the other."""
    for name, value in options.items():
        yield f"--{name}"
        yield value


def run_command(*words: object) -> None:
    """Run an edge-mrcnn command."""
    subprocess.run([sys.executable, "-m", "edge_mrcnn", *map(str, words)], check=True, env=ENVIRONMENT)


def export_ours(best: Path, data: str, targets: Sequence[str], images: int) -> None:
    """Write INT8 files beside the checkpoint."""
    if all((best.parent / f"best-int8{SUFFIXES[target]}").is_file() for target in targets):
        return
    options = {"target": ",".join(targets), "calib": data, "calib-images": images, "conf": LEAST_SCORE}
    run_command("export", "--weights", best, "--int8", *flags(options), "-o", best.parent, "--overwrite")


def train_peer(data: str, size: int, epochs: int, batch: int, device: str, workers: int, output: Path) -> Path:
    """Train yolo11n-seg with its own package, from random weights; returns its checkpoint."""
    best = output / f"{PEER}-{size}" / "weights" / "best.pt"
    if not best.is_file():
        from ultralytics import YOLO

        YOLO(f"{PEER}.yaml").train(
            data=str(write_peer_data(data, output)), epochs=epochs, imgsz=size, batch=batch, pretrained=False,
            device=device, workers=workers, project=str(output), name=f"{PEER}-{size}", exist_ok=True, plots=False,
        )  # fmt: skip
    return best


def write_peer_data(data: str, output: Path) -> Path:
    """Write the same pictures and outlines in the YOLO layout."""
    root = output / "yolo"
    file = root / "data.yaml"
    if file.is_file():
        return file
    for split in ("train", "val"):
        loaded = load(data, split)
        numbers = {category: number for number, category in enumerate(sorted(loaded.categories))}
        (root / "images" / split).mkdir(parents=True, exist_ok=True)
        (root / "labels" / split).mkdir(parents=True, exist_ok=True)
        for image in loaded.images:
            (root / "images" / split / f"{image.id}{image.path.suffix}").symlink_to(image.path.resolve())
            lines = label_lines(loaded, image, numbers)
            (root / "labels" / split / f"{image.id}.txt").write_text("\n".join(lines))
    names = "".join(f"  {number}: {loaded.categories[category]}\n" for category, number in numbers.items())
    file.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return file


def label_lines(data: CocoData, image: CocoImage, numbers: dict[int, int]) -> list[str]:
    """A line for each object: its class and its largest outline, as fractions of width and height."""
    lines = []
    for annotation in data.annotations(image.id):
        if annotation["iscrowd"] or not annotation.get("segmentation"):
            continue
        mask = decode_mask(annotation)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        largest = max(outlines, key=cv2.contourArea, default=None)
        if largest is None or len(largest) < 3:
            continue
        shares = largest.reshape(-1, 2) / (image.width, image.height)
        corners = " ".join(f"{share:.5f}" for share in shares.ravel())
        lines.append(f"{numbers[annotation['category_id']]} {corners}")
    return lines


def export_peer(weights: Path, target: str, size: int, output: Path) -> Path:
    """Export yolo11n-seg to INT8 with its own package."""
    from ultralytics import YOLO

    kept = weights.parent / f"{target}.txt"
    if not kept.is_file():
        form = PEER_FORMATS[target]
        data = str(output / "yolo" / "data.yaml")
        options = {"opset": 18} if target == "onnx" else {}
        made = YOLO(weights).export(format=form, imgsz=size, quantize=8, data=data, device="cpu", **options)
        kept.write_text(str(made))
    return Path(kept.read_text())


def open_ours(file: Path) -> Detect:
    """Open an INT8 file of edge-mrcnn."""
    model = runtimes.load(file, threads=1)

    def detect(picture: np.ndarray, image_id: int) -> Timed:
        found = model.infer(picture)
        return found.to_coco(image_id), sum(found.speed_ms.values())

    return detect


def open_peer(file: Path, size: int) -> Detect:
    """Open an INT8 file of ultralytics; its class 0 becomes category 1."""
    from ultralytics import YOLO

    model = YOLO(file, task="segment")

    def detect(picture: np.ndarray, image_id: int) -> Timed:
        options = {"imgsz": size, "conf": LEAST_SCORE, "max_det": 100, "device": "cpu", "verbose": False}
        (found,) = model.predict(np.ascontiguousarray(picture[..., ::-1]), retina_masks=True, **options)
        spent = sum(found.speed.values())
        return peer_results(found, image_id), spent

    return detect


def peer_results(found: Any, image_id: int) -> list[dict[str, Any]]:
    """Results of ultralytics as COCO results."""
    if found.masks is None:
        return []
    results = []
    masks = found.masks.data.cpu().numpy() > 0.5
    boxes = found.boxes.xyxy.cpu().numpy().astype(float)
    for box, score, label, mask in zip(boxes, found.boxes.conf, found.boxes.cls, masks, strict=True):
        x0, y0, x1, y1 = box.tolist()
        outline = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        results.append(
            {
                "image_id": image_id,
                "category_id": int(label) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": float(score),
                "segmentation": {**outline, "counts": outline["counts"].decode("ascii")},
            }
        )
    return results


def measure(models: dict[str, Detect], data: CocoData, target: str, size: int, limit: int | None) -> list[Point]:
    """AP and time of both models, in turn on each picture."""
    categories = sorted(data.categories)
    evaluators = {name: Evaluator(data, categories) for name in models}
    times: dict[str, list[float]] = {name: [] for name in models}
    for image in data.images[:limit]:
        picture = read_image(image.path)
        for name, detect in models.items():
            results, spent = detect(picture, image.id)
            if name == PEER:
                results = [{**result, "category_id": categories[result["category_id"] - 1]} for result in results]
            evaluators[name].add(image.id, results)
            times[name].append(spent)
    points = []
    for name, evaluator in evaluators.items():
        found = evaluator.finish({})
        mean = statistics.mean(times[name][1:] or times[name])  # the first one warms up
        points.append(Point(name, target, size, found.box.ap, found.mask.ap, mean))
    return points


def write_results(points: list[Point], epochs: int, output: Path) -> None:
    """Write the numbers and the table, and print the table."""
    record = {"epochs": epochs, "points": [asdict(point) for point in points]}
    (output / "accuracy.json").write_text(json.dumps(record, indent=1) + "\n")
    header = ("model", "runtime", "px", "box AP", "mask AP", "ms")
    rows = []
    for point in points:
        aps = (f"{100 * point.box_ap:.1f}", f"{100 * point.mask_ap:.1f}")
        rows.append((point.model, point.runtime, f"{point.size}", *aps, f"{point.ms:.1f}"))
    table = Table(header, tuple(rows), 2).markdown()
    (output / "accuracy.md").write_text("\n".join(table) + "\n")
    click.echo("\n".join(table))


if __name__ == "__main__":
    main()

"""Scenes as COCO data on disk: splits `train`, `val` and a small `real` one of unchanged photographs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.scenes.compose import draw_scene, make_scene, visible_masks
from edge_mrcnn.data.scenes.cutouts import CLASSES, COIN_ROW_SPLIT_Y, trace_coins
from edge_mrcnn.data.scenes.photographs import read_photograph
from quantize.calibration import describe_image, write_manifest
from runtimes.errors import MissingExtraError, UsageError
from runtimes.progress import Progress, silent

REFERENCE_SIZE = 320
"""Height or width at which objects have their natural sizes; in other images sizes follow the smaller side."""
LEAST_SIZE = 64
"""Smallest height or width of a scene, in pixels."""
SPLIT_STREAMS = {"train": 0, "val": 1, "calib": 2}
"""Each split has its own random stream, so none shares a scene with another."""

REAL_CROPS = (  # (x0, y0, width, height, zoom) of the coins photograph, below the rows that training sees
    (0, 156, 384, 147, 1.5),
    (8, 160, 176, 143, 2.0),
    (176, 156, 208, 147, 2.0),
    (76, 158, 236, 145, 1.5),
    (16, 160, 117, 120, 2.5),
    (180, 158, 130, 130, 2.5),
    (240, 154, 144, 144, 2.2),
    (10, 225, 200, 78, 2.2),
    (137, 225, 194, 78, 2.2),
    (210, 230, 174, 73, 2.5),
    (10, 170, 200, 50, 3.0),
    (126, 160, 123, 64, 3.0),
)
REAL_EMPTY = ("text", "camera", "rocket")
"""Photographs without objects of `CLASSES`, not used in training: all detections there are false positives."""


@dataclass(frozen=True)
class Example:
    """One image with its objects."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    masks: list[np.ndarray]
    """(H, W) bool, the visible part of each object."""
    labels: list[int]
    """Index into `CLASSES` of each object."""
    jpeg_quality: int
    """In [1, 100]."""


def make_dataset(
    folder: str | Path,
    *,
    train: int = 1200,
    val: int = 150,
    size_hw: tuple[int, int] = (320, 320),
    seed: int = 0,
    progress: Progress = silent,
) -> None:
    """Write `images/{train,val,real}/*.jpg` and `annotations/instances_{train,val,real}.json` under a folder.

    `train` and `val` are generated: real objects, cut from photographs and laid on photographed ground. They share
    neither coins, stones, prints, glazes nor surfaces; the one cup is the same. `real` is not generated: crops of the
    photograph of coins that shows only coins which training never saw, masks traced by the same edge tracer (checked
    by eye, not drawn by hand), and three photographs without objects. Twelve coins of one photograph are a smoke test
    of what carries over to a real picture, not a benchmark.

    The same arguments give the same annotations and pixels; scene i of a split does not depend on how many there are.

    Args:
        folder: Output folder; files of an earlier call are overwritten.
        train: Number of training scenes.
        val: Number of validation scenes.
        size_hw: Height and width of each scene in pixels.
        seed: Any non-negative integer.
        progress: Called after each scene.

    Raises:
        MissingExtraError: If scikit-image or pycocotools is not installed.
        UsageError: If a count is below one, the seed negative or the size too small.
    """
    if min(train, val) < 1 or seed < 0 or min(size_hw) < LEAST_SIZE:
        raise UsageError(
            f"expected at least 1 scene per split, a seed >= 0 and sides >= {LEAST_SIZE}; "
            f"got train={train}, val={val}, seed={seed}, size_hw={tuple(size_hw)}"
        )
    total, done = train + val, 0
    for split, count in (("train", train), ("val", val)):
        scenes = (make_example(split, index, size_hw=size_hw, seed=seed) for index in range(count))
        for _ in _write_split(Path(folder), split, scenes):
            done += 1
            progress("scenes", done, total)
    list(_write_split(Path(folder), "real", make_real_examples()))


def make_calibration_set(
    folder: str | Path, *, count: int = 32, size_hw: tuple[int, int] = (320, 320), seed: int = 0
) -> Path:
    """Write a calibration set: scenes like those of training, but none of those in `train` or `val`.

    Args:
        folder: Output folder; gets `images/*.jpg` and `manifest.json`.
        count: Number of images, at least one.
        size_hw: Height and width of each in pixels.
        seed: Any non-negative integer.

    Returns:
        The manifest.

    Raises:
        MissingExtraError: If scikit-image is not installed.
    """
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    entries = []
    for index in range(count):
        example = make_example("calib", index, size_hw=size_hw, seed=seed)
        file = f"images/{index:03d}.jpg"
        (folder / file).write_bytes(encode_jpeg(example.image, example.jpeg_quality))
        names = ", ".join(sorted({CLASSES[label] for label in example.labels})) or "nothing"
        entries.append(
            describe_image(
                folder,
                file,
                source=f"generated from photographs in scikit-image: seed {seed}, split calib, scene {index}",
                licence="composed of public domain, CC0 and unrestricted photographs, see README.md",
                why=f"a scene such as training sees, with {names}",
            )
        )
    return write_manifest(folder, entries)


def make_example(split: str, index: int, *, size_hw: tuple[int, int] = (320, 320), seed: int = 0) -> Example:
    """Scene `index` of a split of `SPLIT_STREAMS`; only "val" uses held-out objects and surfaces."""
    stream = SPLIT_STREAMS[split]
    rng = np.random.default_rng((seed, stream, index))
    scene = make_scene(rng, held_out=split == "val", size_hw=size_hw, unit=min(size_hw) / REFERENCE_SIZE)
    picture = draw_scene(scene, size_hw, noise_seed=int(rng.integers(1 << 31)))
    masks = visible_masks(picture.owner, len(scene.placements))
    labels = [placement.cutout.label for placement in scene.placements]
    return Example(picture.image, masks, labels, jpeg_quality=int(rng.integers(60, 96)))


def make_real_examples() -> Iterator[Example]:
    """Unchanged photographs: crops of held-out coins, enlarged, then images without objects."""
    for x, y, width, height, zoom in REAL_CROPS:
        crop = read_photograph("coins")[y : y + height, x : x + width]
        size = (round(width * zoom), round(height * zoom))
        image = cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)
        masks = [mask for mask in _coin_masks(x, y, zoom, size) if mask.any()]
        yield Example(image, masks, [CLASSES.index("coin")] * len(masks), jpeg_quality=92)
    for name in REAL_EMPTY:
        yield Example(read_photograph(name), [], [], jpeg_quality=92)


def _coin_masks(x: int, y: int, zoom: float, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """(H, W) bool mask of each held-out coin in one crop; empty for those outside it."""
    for rim in trace_coins():
        if rim[:, 1].mean() > COIN_ROW_SPLIT_Y:
            outline = (rim - (x, y) + 0.5) * zoom - 0.5
            mask = np.zeros(size[::-1], np.uint8)
            cv2.fillPoly(mask, [np.round(outline * 16).astype(np.int32)], 1, cv2.LINE_8, shift=4)
            yield mask.astype(bool)


def _write_split(folder: Path, split: str, examples: Iterator[Example]) -> Iterator[None]:
    """Write images one by one, then the annotation file; yields after each image."""
    images = folder / "images" / split
    images.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "info": {"description": f"edge-mrcnn scenes, {split}"},
        "images": [],
        "annotations": [],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)],
    }
    for image_id, example in enumerate(examples, start=1):
        name = f"{image_id:06d}.jpg"
        (images / name).write_bytes(encode_jpeg(example.image, example.jpeg_quality))
        h, w = example.image.shape[:2]
        record["images"].append({"id": image_id, "file_name": name, "width": w, "height": h})
        for label, mask in zip(example.labels, example.masks, strict=True):
            annotation = {"id": len(record["annotations"]) + 1, "image_id": image_id, "category_id": label + 1}
            record["annotations"].append(annotation | _describe(mask))
        yield
    annotations = folder / "annotations"
    annotations.mkdir(exist_ok=True)
    (annotations / f"instances_{split}.json").write_text(json.dumps(record))


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """A (H, W, 3) uint8 RGB picture as JPEG."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])


def _describe(mask: np.ndarray) -> dict[str, Any]:
    """COCO's fields of one mask, its outline as compressed RLE."""
    try:
        from pycocotools import mask as rle
    except ModuleNotFoundError as error:
        raise MissingExtraError("masks need pycocotools: pip install 'edge-mrcnn[train]'") from error
    code = rle.encode(np.asfortranarray(mask, np.uint8))
    return {
        "segmentation": {"size": code["size"], "counts": code["counts"].decode("ascii")},
        "area": int(rle.area(code)),
        "bbox": [float(v) for v in rle.toBbox(code)],
        "iscrowd": 0,
    }

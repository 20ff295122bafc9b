"""Side by side: the ground truth and every model's answer to one image, an object in the same colour everywhere."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.report.agreement import by_image, compare, confident, image_change, match
from edge_mrcnn.report.coco_api import rle
from edge_mrcnn.report.evaluate import Evaluation, read_sized

Result = dict[str, Any]
Colour = tuple[int, int, int]

PANEL_SIZE = (420, 360)
"""Width and height of a panel in pixels at most: sharp on a phone, and a report stays a few megabytes."""
FONT_SCALE = 0.5
JPEG_QUALITY = 84


@dataclass(frozen=True)
class Panel:
    """One answer to one image."""

    caption: str
    objects: int
    change: float | None
    """How much it differs from the reference's panel, in [0, 1]; None for ground truth and reference."""
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True)
class Strip:
    """All answers to one image."""

    data_set: str
    file: str
    change: float
    """How much the model that changed most differs from the reference, in [0, 1]."""
    panels: tuple[Panel, ...]


def draw_strips(
    label: str, data: CocoData, evaluations: Mapping[str, Evaluation], *, changed: int = 3, typical: int = 3
) -> list[Strip]:
    """The images on which a model changed most, then others spread over the rest, most changed first.

    Args:
        label: Of the data set.
        data: Images and annotations.
        evaluations: Model name to evaluation, the reference first.
        changed: Number of images that changed most.
        typical: Number of others.
    """
    images = {image.id: image for image in data.images}
    change = _change_per_image(list(evaluations.values()))
    chosen = choose(change, changed=changed, typical=typical)
    answers = {name: by_image(evaluation.results) for name, evaluation in evaluations.items()}
    categories = next(iter(evaluations.values())).categories
    strips = []
    for image_id in chosen:
        truth = [a for a in data.annotations(image_id) if a["category_id"] in categories]
        objects = {"ground truth": truth, **{name: confident(answer[image_id]) for name, answer in answers.items()}}
        panels = draw_panels(images[image_id], objects, categories)
        strips.append(Strip(label, images[image_id].path.name, change[image_id], panels))
    return strips


def choose(change: Mapping[int, float], *, changed: int, typical: int) -> list[int]:
    """Image ids: those that changed most, then others at even steps through the ranking."""
    ranking = sorted(change, key=lambda image_id: -change[image_id])
    rest = ranking[changed:]
    steps = (
        np.linspace(0, len(rest) - 1, min(typical, len(rest)) + 2)[1:-1] if len(rest) > typical else range(len(rest))
    )
    return ranking[:changed] + [rest[round(step)] for step in steps]


def draw_panels(
    image: CocoImage, answers: Mapping[str, Sequence[Result]], categories: Mapping[int, str]
) -> tuple[Panel, ...]:
    """One panel for each answer; the first answer sets the colours, the second is what the others are compared with.

    Args:
        image: The picture.
        answers: At least two: caption to COCO records with category, box, compressed mask and, for results, a score.
        categories: Category id to name.
    """
    pixels = read_sized(image)
    scale = min(1.0, PANEL_SIZE[0] / image.width, PANEL_SIZE[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    first, reference, *_ = answers.values()
    panels = []
    for number, (caption, objects) in enumerate(answers.items()):
        canvas = small.copy()
        for thing, index in zip(objects, colour_indices(first, objects), strict=True):
            draw_object(canvas, thing, colour(index), scale, categories[thing["category_id"]])
        change = image_change(reference, objects) if number > 1 else None
        panels.append(Panel(caption, len(objects), change, encode_jpeg(canvas)))
    return tuple(panels)


def colour_indices(first: Sequence[Result], objects: Sequence[Result]) -> list[int]:
    """Each object's number: that of the object of `first` it is paired with, or a new one."""
    paired = {theirs: ours for ours, theirs in match(first, objects)}
    fresh = iter(range(len(first), len(first) + len(objects)))
    return [paired[i] if i in paired else next(fresh) for i in range(len(objects))]


def colour(index: int) -> Colour:
    """A bright RGB colour, far from those of the neighbouring numbers (golden angle on the hue circle)."""
    red, green, blue = colorsys.hsv_to_rgb((0.58 + 0.381966 * index) % 1.0, 0.72, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_object(canvas: np.ndarray, thing: Result, paint: Colour, scale: float, name: str) -> None:
    """Draw one object's mask, box and name.

    Args:
        canvas: (h, w, 3) uint8 RGB, changed in place.
        thing: A COCO record in pixels of the full image.
        paint: RGB.
        scale: Canvas pixels per pixel of the full image.
        name: Of the class.
    """
    height, width = canvas.shape[:2]
    mask = cv2.resize(
        rle.decode(thing["segmentation"]).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA
    )
    canvas[:] = canvas + (mask[..., None] * 0.45) * (np.array(paint, np.float32) - canvas)
    outlines, _ = cv2.findContours((mask >= 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, outlines, -1, paint, 1, cv2.LINE_AA)
    x, y, w, h = (round(v * scale) for v in thing["bbox"])
    cv2.rectangle(canvas, (x, y), (x + w, y + h), paint, 1, cv2.LINE_AA)
    score = thing.get("score")
    _draw_label(canvas, name if score is None else f"{name} {score:.2f}", (x, y), paint)


def encode_jpeg(image: np.ndarray) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return data.tobytes()


def _change_per_image(evaluations: Sequence[Evaluation]) -> dict[int, float]:
    reference, *others = evaluations
    changes = [compare(reference.results, other.results, reference.image_ids).change for other in others]
    return {image_id: max((c[image_id] for c in changes), default=0.0) for image_id in reference.image_ids}


def _draw_label(canvas: np.ndarray, text: str, corner_xy: tuple[int, int], paint: Colour) -> None:
    """Dark text on the object's colour, above its box where there is room."""
    (width, height), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, 1)
    x = min(max(corner_xy[0], 0), max(canvas.shape[1] - width - 4, 0))
    y = max(corner_xy[1], height + baseline)
    cv2.rectangle(canvas, (x, y - height - baseline), (x + width + 4, y), paint, cv2.FILLED)
    cv2.putText(canvas, text, (x + 2, y - baseline), cv2.FONT_HERSHEY_SIMPLEX, FONT_SCALE, (16, 18, 24), 1, cv2.LINE_AA)

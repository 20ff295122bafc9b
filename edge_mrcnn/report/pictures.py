"""Panels for the pictures of a report: ground truth and every model's detections on one image, each object in one
colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.agreement import compare, confident, image_change, match
from edge_mrcnn.evaluation.evaluate import Evaluation, read_sized
from edge_mrcnn.evaluation.image_results import Result
from edge_mrcnn.evaluation.overlay import draw_objects, encode_jpeg, label_of
from runtimes.draw import PALETTE, Color

PANEL_SIZE = (420, 360)
"""Maximum width and height of a panel in pixels: sharp on a phone, and a report stays at a few megabytes."""
DASH = 6
"""Length of a dash, and of the gap after it, in pixels."""
LOST_COLOR: Color = (235, 64, 52)


@dataclass(frozen=True)
class Panel:
    """The detections of one model on one image."""

    caption: str
    objects: int
    change: float | None
    """Difference from the reference's panel, in [0, 1]; None for ground truth and reference."""
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True)
class Strip:
    """All panels of one image."""

    data_set: str
    file: str
    change: float
    """The largest difference of a model from the reference, in [0, 1]."""
    panels: tuple[Panel, ...]


def draw_strips(
    label: str, data: CocoData, evaluations: Mapping[str, Evaluation], *, changed: int = 3, typical: int = 3
) -> list[Strip]:
    """Strips for the images with the largest differences, then for others at even steps through the ranking.

    Args:
        label: Label of the data set.
        data: Images and annotations.
        evaluations: Model name -> evaluation, the reference first.
        changed: Number of images with the largest differences.
        typical: Number of other images.
    """
    images = {image.id: image for image in data.images}
    change = _change_per_image(list(evaluations.values()))
    chosen = choose(change, changed=changed, typical=typical)
    categories = next(iter(evaluations.values())).categories
    strips = []
    for image_id in chosen:
        objects = {"ground truth": _true_objects(data, image_id, categories)}
        for name, evaluation in evaluations.items():
            objects[name] = confident(evaluation.results[image_id])
        panels = draw_panels(images[image_id], objects, categories)
        strips.append(Strip(label, images[image_id].path.name, change[image_id], panels))
    return strips


def _true_objects(data: CocoData, image_id: int, categories: Mapping[int, str]) -> list[Result]:
    """Annotations of the evaluated classes, without crowds."""
    objects = []
    for annotation in data.annotations(image_id):
        if annotation["category_id"] in categories and not annotation["iscrowd"]:
            objects.append(annotation)
    return objects


def choose(change: Mapping[int, float], *, changed: int, typical: int) -> list[int]:
    """Image ids: those with the largest differences, then others at even steps through the ranking."""
    ranking = sorted(change, key=lambda image_id: -change[image_id])
    chosen, rest = ranking[:changed], ranking[changed:]
    if len(rest) <= typical:
        return chosen + rest
    steps = np.linspace(0, len(rest) - 1, typical + 2)[1:-1]  # evenly spaced, without the first and the last one
    return chosen + [rest[round(step)] for step in steps]


def draw_panels(
    image: CocoImage, results: Mapping[str, Sequence[Result]], categories: Mapping[int, str]
) -> tuple[Panel, ...]:
    """One panel for each set of objects; the second one is the reference for those after it.

    Args:
        image: The image.
        results: At least two: caption -> COCO records with category, box, compressed mask and, for results, a score,
            best first.
        categories: Category id -> name.
    """
    small, scale = _shrink(read_sized(image), image)
    _, reference, *_ = results.values()
    known: list[Result] = []
    panels = []
    for number, (caption, objects) in enumerate(results.items()):
        colors = [PALETTE[index % len(PALETTE)] for index in number_objects(known, objects)]
        labels = [label_of(thing, categories) for thing in objects]
        canvas = draw_objects(small.copy(), objects, colors, scale, labels)
        change = None
        if number > 1:  # the first two are the ground truth and the reference
            change = image_change(reference, objects)
            draw_lost(canvas, find_lost(reference, objects), scale)
        panels.append(Panel(caption, len(objects), change, encode_jpeg(canvas)))
    return tuple(panels)


def _shrink(pixels: np.ndarray, image: CocoImage) -> tuple[np.ndarray, float]:
    """The image at the size of a panel, and panel pixels per pixel of the image."""
    most_width, most_height = PANEL_SIZE
    scale = min(1.0, most_width / image.width, most_height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), scale


def find_lost(reference: Sequence[Result], objects: Sequence[Result]) -> list[Result]:
    """The reference's objects without a match."""
    kept = {ours for ours, _ in match(reference, objects)}
    return [thing for index, thing in enumerate(reference) if index not in kept]


def draw_lost(canvas: np.ndarray, objects: Sequence[Result], scale: float) -> np.ndarray:
    """Draw a dashed red box around each missing object on an (h, w, 3) uint8 RGB canvas, in place."""
    for thing in objects:
        x, y, width, height = np.rint(np.array(thing["bbox"]) * scale).astype(int)
        corners = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])
        next_corners = np.roll(corners, -1, axis=0)
        for start, end in zip(corners, next_corners, strict=True):
            _draw_dashes(canvas, start, end)
    return canvas


def _draw_dashes(canvas: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    length = int(np.abs(end - start).max())
    count = max(1, length // (2 * DASH))
    stops = np.linspace(start, end, 2 * count + 1).round().astype(int).tolist()
    for index in range(0, 2 * count, 2):  # every other piece is a gap
        cv2.line(canvas, stops[index], stops[index + 1], LOST_COLOR, 2, cv2.LINE_AA)


def number_objects(known: list[Result], objects: Sequence[Result]) -> list[int]:
    """Each object's number in `known`: that of its match, or a new one at the end, which is appended."""
    paired = {theirs: ours for ours, theirs in match(known, objects)}
    numbers = []
    for index, thing in enumerate(objects):
        numbers.append(paired.get(index, len(known)))
        if index not in paired:
            known.append(thing)
    return numbers


def _change_per_image(evaluations: Sequence[Evaluation]) -> dict[int, float]:
    reference, *others = evaluations
    most = dict.fromkeys(reference.image_ids, 0.0)
    for other in others:
        change = compare(reference.results, other.results, reference.image_ids).change
        for image_id in most:
            most[image_id] = max(most[image_id], change[image_id])
    return most

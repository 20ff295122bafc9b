"""Side by side: the ground truth and every model's answer to one image, an object in the same colour everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoData, CocoImage
from edge_mrcnn.evaluation.agreement import compare, confident, image_change, match
from edge_mrcnn.evaluation.answers import Result
from edge_mrcnn.evaluation.coco_api import rle
from edge_mrcnn.evaluation.evaluate import Evaluation, read_sized
from runtimes.draw import FONT, PALETTE, Color, Rect, Style, draw_polygons, fill_polygons, is_free, to_polygons
from runtimes.postprocess import MASK_THRESHOLD, Region, find_contours

PANEL_SIZE = (420, 360)
"""Width and height of a panel in pixels at most: sharp on a phone, and a report stays a few megabytes."""
FONT_SCALE = 0.45
DASH = 6
"""Length of a dash, and of the gap after it, in pixels."""
LOST_COLOR: Color = (235, 64, 52)
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
    categories = next(iter(evaluations.values())).categories
    strips = []
    for image_id in chosen:
        truth = [a for a in data.annotations(image_id) if a["category_id"] in categories and not a["iscrowd"]]
        objects = {"ground truth": truth, **{n: confident(e.answers[image_id]) for n, e in evaluations.items()}}
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
    """One panel for each answer; the second answer is what those after it are compared with.

    Args:
        image: The picture.
        answers: At least two: caption to COCO records with category, box, compressed mask and, for results, a score,
            best first.
        categories: Category id to name.
    """
    pixels = read_sized(image)
    scale = min(1.0, PANEL_SIZE[0] / image.width, PANEL_SIZE[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, reference, *_ = answers.values()
    known: list[Result] = []
    panels = []
    for number, (caption, objects) in enumerate(answers.items()):
        colors = [PALETTE[index % len(PALETTE)] for index in number_objects(known, objects)]
        canvas = draw_objects(small.copy(), objects, colors, scale, [label_of(thing, categories) for thing in objects])
        change = image_change(reference, objects) if number > 1 else None
        if number > 1:
            draw_lost(canvas, find_lost(reference, objects), scale)
        panels.append(Panel(caption, len(objects), change, encode_jpeg(canvas)))
    return tuple(panels)


def find_lost(reference: Sequence[Result], objects: Sequence[Result]) -> list[Result]:
    """Those of the reference's objects that no object is paired with."""
    kept = {ours for ours, _ in match(reference, objects)}
    return [thing for index, thing in enumerate(reference) if index not in kept]


def draw_lost(canvas: np.ndarray, objects: Sequence[Result], scale: float) -> np.ndarray:
    """A dashed red box around each object that is not there, on an (h, w, 3) uint8 RGB canvas, in place."""
    for thing in objects:
        x, y, w, h = (round(v * scale) for v in thing["bbox"])
        corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
        for start, end in zip(corners, corners[1:], strict=False):
            _draw_dashes(canvas, np.array(start), np.array(end))
    return canvas


def _draw_dashes(canvas: np.ndarray, start: np.ndarray, end: np.ndarray) -> None:
    count = max(1, int(np.abs(end - start).max()) // (2 * DASH))
    steps = np.linspace(start, end, 2 * count + 1).round().astype(int)
    for begin, stop in zip(steps[::2], steps[1::2], strict=False):
        cv2.line(canvas, begin.tolist(), stop.tolist(), LOST_COLOR, 2, cv2.LINE_AA)


def number_objects(known: list[Result], objects: Sequence[Result]) -> list[int]:
    """Each object's number in `known`: of the one it is paired with, or of its own at the end, where it is put."""
    paired = {theirs: ours for ours, theirs in match(known, objects)}
    numbers = []
    for index, thing in enumerate(objects):
        numbers.append(paired.get(index, len(known)))
        if index not in paired:
            known.append(thing)
    return numbers


def label_of(thing: Result, categories: Mapping[int, str]) -> str:
    """Class, where there are several, and score, where there is one."""
    name = categories[thing["category_id"]] if len(categories) > 1 else ""
    return f"{name} {thing['score']:.2f}".strip() if "score" in thing else name


def draw_objects(
    canvas: np.ndarray, objects: Sequence[Result], colors: Sequence[Color], scale: float, labels: Sequence[str]
) -> np.ndarray:
    """Draw masks, contours, boxes and labels, the best object on top.

    Args:
        canvas: (h, w, 3) uint8 RGB, changed in place.
        objects: COCO records in pixels of the full image, best first.
        colors: RGB of each.
        scale: Canvas pixels per pixel of the full image.
        labels: Of each; an empty one is not drawn, nor one that would cover a better object's.

    Returns:
        The canvas.
    """
    style = Style.for_size(*canvas.shape[:2])
    contours = to_polygons([find_contours(_shrink_mask(thing, canvas.shape[:2])) for thing in objects])
    boxes = [np.array(thing["bbox"]) * scale for thing in objects]
    worst_first = range(len(objects) - 1, -1, -1)
    for i in worst_first:
        fill_polygons(canvas, contours[i], colors[i])
    for i in worst_first:
        x, y, w, h = boxes[i]
        draw_polygons(canvas, contours[i], colors[i], style)
        cv2.rectangle(canvas, (round(x), round(y)), (round(x + w), round(y + h)), colors[i], 1)
    taken: list[Rect] = []
    for box, color, label in zip(boxes, colors, labels, strict=True):
        if label:
            _draw_label(canvas, label, (round(box[0]), round(box[1])), color, taken)
    return canvas


def encode_jpeg(image: np.ndarray) -> bytes:
    """(h, w, 3) uint8 RGB as a JPEG file."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return data.tobytes()


def _change_per_image(evaluations: Sequence[Evaluation]) -> dict[int, float]:
    reference, *others = evaluations
    changes = [compare(reference.answers, other.answers, reference.image_ids).change for other in others]
    return {image_id: max((c[image_id] for c in changes), default=0.0) for image_id in reference.image_ids}


def _shrink_mask(thing: Result, size_hw: tuple[int, int]) -> Region:
    """The mask at the canvas's size, as a region of all of it."""
    mask = rle.decode(thing["segmentation"]).astype(np.float32)
    shrunk = cv2.resize(mask, size_hw[::-1], interpolation=cv2.INTER_AREA)
    return Region(0, 0, shrunk >= MASK_THRESHOLD)


def _draw_label(canvas: np.ndarray, text: str, corner_xy: tuple[int, int], color: Color, taken: list[Rect]) -> None:
    """Dark text on the object's colour, above its box where there is room, unless it would cover one of `taken`."""
    (width, height), baseline = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
    x = min(max(corner_xy[0], 0), max(canvas.shape[1] - width - 4, 0))
    y = max(corner_xy[1], height + baseline)
    plate = Rect(x, y - height - baseline, x + width + 4, y)
    if not is_free(plate, taken):
        return
    taken.append(plate)
    cv2.rectangle(canvas, (plate.left, plate.top), (plate.right, plate.bottom), color, cv2.FILLED)
    cv2.putText(canvas, text, (x + 2, y - baseline), FONT, FONT_SCALE, (16, 18, 24), 1, cv2.LINE_AA)

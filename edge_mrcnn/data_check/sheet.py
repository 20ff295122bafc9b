"""Images of a data set with their objects drawn: a sample of all, and those with faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoImage
from edge_mrcnn.data.faults import Fault, Finding, Place
from edge_mrcnn.data.records import Records
from edge_mrcnn.evaluation.overlay import draw_objects, encode_jpeg
from runtimes.draw import PALETTE, Color
from runtimes.errors import EdgeError
from runtimes.preprocess import read_image

MOST_DRAWN = 1000
"""Maximum number of objects drawn in one image."""
CARD_SIZE = (320, 240)
"""Maximum width and height of an image on the sheet, in pixels."""


@dataclass(frozen=True)
class Card:
    """An image on the sheet."""

    split: str
    caption: str
    note: str
    jpeg: bytes = field(repr=False)


def sample_cards(records: Records, count: int) -> list[Card]:
    """Images at even steps through those with objects; unreadable ones are skipped."""
    rows = _rows_by_image(records)
    ids = sorted(rows)
    steps = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    cards = []
    for step in dict.fromkeys(steps.tolist()):  # without duplicates
        image_id = ids[step]
        card = draw_card(records, records.images[image_id], rows[image_id])
        if card is not None:
            cards.append(card)
    return cards


def fault_cards(records: Sequence[Records], findings: Sequence[Finding], count: int) -> list[Card]:
    """Objects with a fault, alone in their images, one of each kind of fault first."""
    owners = {owner.split: owner for owner in records}
    rows = {owner.split: _rows_by_number(owner) for owner in records}
    cards: list[Card] = []
    for fault, place in _in_turns(findings, count):
        if len(cards) == count:
            break
        owner = owners[place.split]
        row = rows[place.split].get(place.object_id)
        image = owner.images.get(place.image_id) if isinstance(place.image_id, int) else None
        if row is None or image is None:
            continue
        card = draw_card(owner, image, [row], note=fault.title)
        if card is not None:
            cards.append(card)
    return cards


def _in_turns(findings: Sequence[Finding], count: int) -> Iterator[tuple[Fault, Place]]:
    """The first place of each finding that is not a note, then the second of each, up to a maximum per finding."""
    serious = [finding for finding in findings if finding.fault.severity != "note"]
    for turn in range(count):
        for finding in serious:
            if turn < len(finding.places):
                yield finding.fault, finding.places[turn]


def draw_card(records: Records, image: CocoImage, rows: Sequence[int], note: str = "") -> Card | None:
    """An image with the objects of some annotations; None if it cannot be read."""
    try:
        pixels = read_image(image.path)
    except EdgeError:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, CARD_SIZE[0] / width, CARD_SIZE[1] / height)
    shown_width = max(1, round(width * scale))
    shown_height = max(1, round(height * scale))
    canvas = cv2.resize(pixels, (shown_width, shown_height), interpolation=cv2.INTER_AREA)

    things = []
    for row in rows[:MOST_DRAWN]:
        thing = _drawable(records, row, image)
        if thing is not None:
            things.append(thing)
    colors, names = _colors_and_names(records, things)
    draw_objects(canvas, things, colors, scale, names)
    return Card(records.split, image.path.name, note or f"{len(rows)}", encode_jpeg(canvas))


def _colors_and_names(records: Records, things: Sequence[dict[str, Any]]) -> tuple[list[Color], list[str]]:
    """A colour and a name for each class; with only one class, a colour for each object and no name."""
    order = list(records.categories)
    colors, names = [], []
    for index, thing in enumerate(things):
        category = thing["category_id"]
        key, name = index, ""
        if len(order) > 1:
            key = order.index(category) if category in order else 0
            name = records.categories.get(category, "?")
        colors.append(PALETTE[key % len(PALETTE)])
        names.append(name)
    return colors, names


def _rows_by_number(records: Records) -> dict[Any, int]:
    """Row of each annotation by its number; see `_number`."""
    rows = {}
    for row, annotation in enumerate(records.annotations):
        rows[_number(annotation, row)] = row
    return rows


def _rows_by_image(records: Records) -> dict[int, list[int]]:
    """Rows of the usable annotations by image."""
    rows: dict[int, list[int]] = defaultdict(list)
    for instance in records.instances:
        rows[instance.image_id].append(instance.row)
    return rows


def _drawable(records: Records, row: int, image: CocoImage) -> dict[str, Any] | None:
    """The object of an annotation; if it is unusable, only its box, if that can be drawn."""
    known = records.by_row.get(row)
    if known is not None:
        return known.annotation
    try:
        raw = records.annotations[row]
        box = [float(value) for value in raw["bbox"]]
        left, top, width, height = np.clip(box, 0, (image.width, image.height) * 2).tolist()
        return {"segmentation": None, "bbox": [left, top, width, height], "category_id": int(raw["category_id"])}
    except (KeyError, TypeError, ValueError):
        return None


def _number(raw: Any, row: int) -> Any:
    """The id of an annotation, or its position in the file if it has none, as in the findings."""
    number = raw.get("id") if isinstance(raw, dict) else None
    if isinstance(number, (int, str)):
        return number
    return f"#{row + 1}"

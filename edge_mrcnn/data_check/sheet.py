"""Pictures of a data set with their objects drawn: a sample of all, and those with a fault."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.coco import CocoImage
from edge_mrcnn.data.faults import Finding
from edge_mrcnn.data.records import Records
from edge_mrcnn.evaluation.overlay import draw_objects, encode_jpeg
from runtimes.draw import PALETTE
from runtimes.errors import EdgeError
from runtimes.preprocess import read_image

MOST_DRAWN = 1000
"""Objects that are drawn in one picture, at most."""
CARD_SIZE = (320, 240)
"""Width and height of a picture on the sheet in pixels, at most."""


@dataclass(frozen=True)
class Card:
    """A picture on the sheet."""

    split: str
    caption: str
    note: str
    jpeg: bytes = field(repr=False)


def sample_cards(records: Records, count: int) -> list[Card]:
    """Images at even steps through those with objects; unreadable ones are passed over."""
    rows = _rows_by_image(records)
    ids = sorted(rows)
    steps: list[int] = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int).tolist()
    cards = (draw_card(records, records.images[ids[step]], rows[ids[step]]) for step in dict.fromkeys(steps))
    return [card for card in cards if card]


def fault_cards(records: Sequence[Records], findings: Sequence[Finding], count: int) -> list[Card]:
    """Objects with a fault alone in their pictures, one of each kind of fault first."""
    by_split = {r.split: r for r in records}
    rows = {r.split: {_number(a, i): i for i, a in enumerate(r.annotations)} for r in records}
    queue = [(f.fault, place) for f in findings if f.fault.severity != "note" for place in f.places[:count]]
    turn: dict[str, int] = defaultdict(int)
    ranked = []
    for fault, place in queue:
        ranked.append((turn[fault.name], fault, place))
        turn[fault.name] += 1
    cards: list[Card] = []
    for _, fault, place in sorted(ranked, key=lambda item: item[0]):
        owner = by_split[place.split]
        row = rows[place.split].get(place.object_id)
        image = owner.images.get(place.image_id) if isinstance(place.image_id, int) else None
        if len(cards) < count and row is not None and image is not None:
            card = draw_card(owner, image, [row], note=fault.title)
            cards += [card] if card else []
    return cards


def draw_card(records: Records, image: CocoImage, rows: Sequence[int], note: str = "") -> Card | None:
    """A picture with the objects of some annotations, or None if it cannot be read."""
    try:
        pixels = read_image(image.path)
    except EdgeError:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, CARD_SIZE[0] / width, CARD_SIZE[1] / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    drawable = [_drawable(records, row, image) for row in rows[:MOST_DRAWN]]
    things = [thing for thing in drawable if thing is not None]
    order = {category: number for number, category in enumerate(records.categories)}
    keys = [order.get(t["category_id"], 0) if len(order) > 1 else i for i, t in enumerate(things)]
    names = [records.categories.get(t["category_id"], "?") if len(order) > 1 else "" for t in things]
    draw_objects(canvas, things, [PALETTE[key % len(PALETTE)] for key in keys], scale, names)
    return Card(records.split, image.path.name, note or f"{len(rows)}", encode_jpeg(canvas))


def _rows_by_image(records: Records) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = defaultdict(list)
    for instance in records.instances:
        rows[instance.image_id].append(instance.row)
    return rows


def _drawable(records: Records, row: int, image: CocoImage) -> dict[str, Any] | None:
    """The object of an annotation; where that cannot be used, its box alone, if that can be drawn."""
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
    number = raw.get("id") if isinstance(raw, dict) else None
    return number if isinstance(number, (int, str)) else f"#{row + 1}"

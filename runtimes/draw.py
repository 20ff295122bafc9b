"""Overlays: translucent masks with a crisp contour, label chips, a small panel of figures.

Drawing happens in place and only inside the boxes, so that it keeps up with a 1080p camera. Sizes follow the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.postprocess import Region, find_contours

if TYPE_CHECKING:
    from runtimes.counting import PlaceCounter
    from runtimes.types import Detections

Array = NDArray[Any]
Color = tuple[int, int, int]

PALETTE: tuple[Color, ...] = (
    (0, 158, 255),
    (255, 159, 28),
    (0, 201, 142),
    (240, 98, 168),
    (255, 221, 51),
    (146, 104, 255),
    (255, 89, 64),
    (228, 232, 242),
    (172, 220, 60),
    (214, 176, 255),
)
"""RGB. Hues in the order of Okabe and Ito (distinct for colour-blind eyes), brighter, since they lie on photographs."""
FONT = cv2.FONT_HERSHEY_DUPLEX
FILL = 0.42
"""Share of the colour in the fill of a mask; the rest is the picture."""

SMOOTHING = 0.8
"""How far a drawn contour may be off the mask, in pixels."""


@dataclass(frozen=True)
class Style:
    """Sizes for one image, in pixels."""

    line: int
    """Width of contours."""
    font_scale: float
    """OpenCV's scale of the font."""
    pad: int
    """Space around text."""

    @classmethod
    def for_size(cls, height: int, width: int) -> Style:
        """Sizes that look the same on a thumbnail and on a 4K frame."""
        side = min(height, width)
        return cls(max(1, round(side / 420)), max(0.34, side / 1500), max(2, round(side / 220)))


class Rect(NamedTuple):
    """A plate in the image, in pixels; right and bottom are outside."""

    left: int
    top: int
    right: int
    bottom: int

    def overlaps(self, other: Rect) -> bool:
        """Whether the two share a pixel."""
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)


def draw_detections(
    image: Array, found: Detections, *, by_instance: bool | None = None, style: Style | None = None
) -> Array:
    """Draw detections into an image, the best on top.

    Args:
        image: (H, W, 3) uint8 RGB of the size that was inferred; changed in place.
        found: Detections of that image.
        by_instance: A colour per object instead of per class; by default only where the model knows one class.
        style: Sizes of lines and text; by default those that fit the image.

    Returns:
        The same image.
    """
    style = style or Style.for_size(*image.shape[:2])
    if by_instance is None:
        by_instance = len(found.names) == 1
    instances = range(len(found)) if found.ids is None else found.ids.tolist()
    keys = instances if by_instance else found.labels.tolist()
    colors = [PALETTE[key % len(PALETTE)] for key in keys]
    rows = range(len(found) - 1, -1, -1)
    for row in rows:
        fill_mask(image, found.masks.regions[row], colors[row])
    for row in rows:
        draw_outline(image, found.masks.regions[row], found.boxes_xyxy[row], colors[row], style)
    draw_chips(image, found, colors, style)
    return image


def fill_mask(image: Array, region: Region, color: Color) -> None:
    """Tint the pixels of a mask."""
    if not region.mask.any():
        return
    height, width = region.mask.shape
    part = image[region.y : region.y + height, region.x : region.x + width]
    tinted = cv2.add(cv2.convertScaleAbs(part, alpha=1 - FILL), FILL * np.array((*color, 0)))
    cv2.copyTo(tinted, region.mask.view(np.uint8), part)


def draw_outline(image: Array, region: Region, box_xyxy: Array, color: Color, style: Style) -> None:
    """Draw the contour of a mask, or the box of an object whose mask is empty."""
    contours = find_contours(region)
    if contours:
        # Steps of a pixel each become a polygon when a thick smooth line is drawn: a few long ones are as good.
        smooth = [cv2.approxPolyDP(contour, SMOOTHING, True) for contour in contours]
        cv2.drawContours(image, smooth, -1, color, style.line, cv2.LINE_AA)
    else:
        x0, y0, x1, y1 = (round(v) for v in box_xyxy.tolist())
        cv2.rectangle(image, (x0, y0), (x1, y1), color, style.line)


def draw_chips(image: Array, found: Detections, colors: Sequence[Color], style: Style) -> None:
    """Label objects, the best first; a label that would cover another is left out."""
    taken: list[Rect] = []
    for row, (region, color) in enumerate(zip(found.masks.regions, colors, strict=True)):
        text = f"{_number(found, row)}{found.names[found.labels[row]]} {found.scores[row]:.0%}"
        (text_w, text_h), baseline = cv2.getTextSize(text, FONT, style.font_scale, 1)
        size = text_w + 2 * style.pad, text_h + baseline + style.pad
        rect = _place_chip(size, _anchor(region, found.boxes_xyxy[row]), image.shape[:2])
        if any(rect.overlaps(other) for other in taken):
            continue
        taken.append(rect)
        cv2.rectangle(image, (rect.left, rect.top), (rect.right - 1, rect.bottom - 1), color, cv2.FILLED)
        origin = (rect.left + style.pad, rect.top + style.pad // 2 + text_h)
        cv2.putText(image, text, origin, FONT, style.font_scale, _text_color(color), 1, cv2.LINE_AA)


def _number(found: Detections, row: int) -> str:
    """The number that a tracker gave an object, before its name."""
    return "" if found.ids is None or found.ids[row] < 0 else f"#{found.ids[row]} "


def _anchor(region: Region, box_xyxy: Array) -> tuple[int, int]:
    """Where a label belongs: x y of the highest point of the mask, or of the box if the mask is empty."""
    rows = np.flatnonzero(region.mask.any(axis=1))
    if not len(rows):
        return round(float(box_xyxy[0])), round(float(box_xyxy[1]))
    return region.x + int(region.mask[rows[0]].argmax()), region.y + int(rows[0])


def _place_chip(size_wh: tuple[int, int], anchor_xy: tuple[int, int], image_hw: tuple[int, ...]) -> Rect:
    """A plate above the anchor or, without room, below it; always inside the image."""
    (width, height), (x, y) = size_wh, anchor_xy
    left = max(0, min(x - height // 2, image_hw[1] - width))
    top = y - height if y >= height else max(0, min(y, image_hw[0] - height))
    return Rect(left, top, left + width, top + height)


def _text_color(color: Color) -> Color:
    """Black or white, whichever is easier to read on this colour (Rec. 709 luma)."""
    red, green, blue = color
    return (16, 16, 16) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 110 else (255, 255, 255)


def draw_counts(image: Array, counter: PlaceCounter, *, style: Style | None = None) -> Array:
    """Draw the lines and zones of a counter with their counts, in place.

    Args:
        image: (H, W, 3) uint8 RGB.
        counter: What counts the objects of this picture's source.
        style: Sizes of lines and text; by default those that fit the image.

    Returns:
        The same image.
    """
    style = style or Style.for_size(*image.shape[:2])
    scale = np.array(image.shape[1::-1])
    for line, crossed in counter.lines.items():
        points = (np.array([line.start, line.end]) * scale).round().astype(np.int32)
        _draw_border(image, points, style, is_closed=False)
        text = f"{line.name}: {sum(crossed.into.values())} in, {sum(crossed.out.values())} out"
        _draw_plate(image, text, points.mean(axis=0), style, is_centred=True)
    for zone, visited in counter.zones.items():
        points = (np.array(zone.points) * scale).round().astype(np.int32)
        _draw_border(image, points, style, is_closed=True)
        text = f"{zone.name}: {len(visited.inside)} now, {sum(visited.entered.values())} in all"
        _draw_plate(image, text, points.min(axis=0), style, is_centred=False)
    return image


def _draw_border(image: Array, points: Array, style: Style, *, is_closed: bool) -> None:
    """Draw a white line with a dark edge, which shows on any ground."""
    for color, width in (((16, 16, 16), style.line + 2), ((245, 245, 245), style.line)):
        cv2.polylines(image, [points], is_closed, color, width, cv2.LINE_AA)


def _draw_plate(image: Array, text: str, anchor_xy: Array, style: Style, *, is_centred: bool) -> None:
    """Write on a dark translucent plate above a point, in its middle or from there to the right."""
    (text_w, text_h), baseline = cv2.getTextSize(text, FONT, style.font_scale, 1)
    size = width, height = text_w + 2 * style.pad, text_h + baseline + style.pad
    x, y = anchor_xy.round().astype(int).tolist()
    rect = _place_chip(size, (x + height // 2 - (width // 2 if is_centred else 0), y), image.shape[:2])
    image[rect.top : rect.bottom, rect.left : rect.right] //= 3
    origin = (rect.left + style.pad, rect.top + style.pad // 2 + text_h)
    cv2.putText(image, text, origin, FONT, style.font_scale, (245, 245, 245), 1, cv2.LINE_AA)


def draw_panel(image: Array, lines: Sequence[str]) -> Array:
    """Write lines of text on a dark translucent panel in the upper left corner, in place.

    Args:
        image: (H, W, 3) uint8 RGB.
        lines: Text, top down.

    Returns:
        The same image.
    """
    style = Style.for_size(*image.shape[:2])
    sizes = [cv2.getTextSize(line, FONT, style.font_scale, 1)[0] for line in lines]
    step = max(height for _, height in sizes) + 2 * style.pad
    margin = 2 * style.pad
    right = margin + max(width for width, _ in sizes) + 2 * margin
    part = image[margin : margin + step * len(lines) + margin, margin:right]
    part[:] = part // 3
    for number, line in enumerate(lines):
        origin = (2 * margin, margin + step * (number + 1))
        cv2.putText(image, line, origin, FONT, style.font_scale, (245, 245, 245), 1, cv2.LINE_AA)
    return image

"""Overlays of lines and zones with their counts."""

from __future__ import annotations

import cv2
import numpy as np

from runtimes.counting import PlaceCounter
from runtimes.draw import FONT, Array, Style, place_chip


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
    rect = place_chip(size, (x + height // 2 - (width // 2 if is_centred else 0), y), image.shape[:2])
    image[rect.top : rect.bottom, rect.left : rect.right] //= 3
    origin = (rect.left + style.pad, rect.top + style.pad // 2 + text_h)
    cv2.putText(image, text, origin, FONT, style.font_scale, (245, 245, 245), 1, cv2.LINE_AA)

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
        counter: Counter of this image's source.
        style: Sizes of lines and text; by default those that fit the image.

    Returns:
        The same image.
    """
    style = style or Style.for_size(*image.shape[:2])
    scale = np.array(image.shape[1::-1])
    for line, crossed in counter.lines.items():
        points = (np.array([line.start, line.end]) * scale).round().astype(np.int32)
        _draw_border(image, points, style, is_closed=False)
        into, out = sum(crossed.into.values()), sum(crossed.out.values())
        text = f"{line.name}: {into} in, {out} out"
        _draw_plate(image, text, points.mean(axis=0), style, is_centred=True)
    for zone, visited in counter.zones.items():
        points = (np.array(zone.points) * scale).round().astype(np.int32)
        _draw_border(image, points, style, is_closed=True)
        now, in_all = len(visited.inside), sum(visited.entered.values())
        text = f"{zone.name}: {now} inside, {in_all} in total"
        _draw_plate(image, text, points.min(axis=0), style, is_centred=False)
    return image


def _draw_border(image: Array, points: Array, style: Style, *, is_closed: bool) -> None:
    """Draw a white line with a dark edge, which is visible on any background."""
    cv2.polylines(image, [points], is_closed, (16, 16, 16), style.line + 2, cv2.LINE_AA)
    cv2.polylines(image, [points], is_closed, (245, 245, 245), style.line, cv2.LINE_AA)


def _draw_plate(image: Array, text: str, anchor_xy: Array, style: Style, *, is_centred: bool) -> None:
    """Write on a dark translucent rectangle above a point, centred or starting there."""
    (text_w, text_h), baseline = cv2.getTextSize(text, FONT, style.font_scale, 1)
    width, height = text_w + 2 * style.pad, text_h + baseline + style.pad
    x, y = anchor_xy.round().astype(int).tolist()
    # `place_chip` starts half a height left of its anchor.
    anchor_x = x + height // 2
    if is_centred:
        anchor_x -= width // 2
    rect = place_chip((width, height), (anchor_x, y), image.shape[:2])
    image[rect.top : rect.bottom, rect.left : rect.right] //= 3
    origin = (rect.left + style.pad, rect.top + style.pad // 2 + text_h)
    cv2.putText(image, text, origin, FONT, style.font_scale, (245, 245, 245), 1, cv2.LINE_AA)

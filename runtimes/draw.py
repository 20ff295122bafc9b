"""Overlays: translucent masks with a sharp contour, labels, and a small text panel.

Drawing is done in place and only inside the boxes, from polygons and from cached images of words, fast enough for a
1080p camera. Sizes depend on the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.preprocess import Order, check_order

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
"""RGB. Hues in the order of Okabe and Ito (distinct for colour-blind eyes), brighter because they are drawn on
photographs."""
_BGR_PALETTE = tuple((blue, green, red) for red, green, blue in PALETTE)
FONT = cv2.FONT_HERSHEY_DUPLEX
SMALLEST_FONT = 0.34
"""OpenCV's font scale of the smallest readable text."""
FILL = 0.42
"""Opacity of the fill of a mask."""

LABEL_PLACES = 6
"""Maximum number of places that are tried for a label, each one label height below the last."""
SMOOTHING = 0.7
"""Maximum distance of a drawn contour from the mask, in pixels."""
_SHIFT = 4
"""Bits of the fraction of a pixel in the coordinates that OpenCV draws."""
_HALF = 1 << (_SHIFT - 1)
_NO_RING = np.zeros((0, 2), np.float32)
_KEPT = 2048
"""Maximum number of cached words: a hundred scores in each of ten colours, and names."""


class Style(NamedTuple):
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
        line = max(1, round(side / 420))
        font_scale = max(SMALLEST_FONT, side / 1500)
        pad = max(2, round(side / 220))
        return cls(line, font_scale, pad)


class Outlines(Protocol):
    """Masks as polygons."""

    @property
    def contours(self) -> Sequence[Sequence[Array]]:
        """The rings of each mask, (K, 2) float32 each, x y in pixels of the image."""


class Objects(Protocol):
    """What is drawn: the attributes of `runtimes.types.Detections` that drawing needs.

    Detections draw themselves with this module, so it declares these attributes instead of importing the class.
    """

    @property
    def boxes_xyxy(self) -> Array:
        """(N, 4) float32, x0 y0 x1 y1 in pixels of the image."""

    @property
    def scores(self) -> Array:
        """(N,) float32 in [0, 1]."""

    @property
    def labels(self) -> Array:
        """(N,) int64, 0-based index into `names`."""

    @property
    def ids(self) -> Array | None:
        """(N,) int64 track numbers, -1 for none yet."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names."""

    @property
    def masks(self) -> Outlines:
        """The masks in the image."""

    def __len__(self) -> int: ...


class Rect(NamedTuple):
    """A label's rectangle in the image, in pixels; right and bottom are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def draw_detections(
    image: Array,
    found: Objects,
    *,
    by_instance: bool | None = None,
    style: Style | None = None,
    order: Order = "rgb",
) -> Array:
    """Draw detections into an image, those with the highest scores on top.

    Args:
        image: (H, W, 3) uint8 of the inferred size; changed in place.
        found: Objects of that image.
        by_instance: One colour per object instead of per class; by default only for models with one class.
        style: Sizes of lines and text; by default those that fit the image.
        order: Channel order of the image.

    Returns:
        The same image.

    Raises:
        UsageError: If the order is unknown.
    """
    check_order(order)
    style = style or Style.for_size(*image.shape[:2])
    if by_instance is None:
        by_instance = len(found.names) == 1
    instances = range(len(found)) if found.ids is None else found.ids.tolist()
    keys = instances if by_instance else found.labels.tolist()
    palette = PALETTE if order == "rgb" else _BGR_PALETTE
    colors = [palette[key % len(palette)] for key in keys]
    polygons = to_polygons(found.masks.contours)
    rows = range(len(found) - 1, -1, -1)
    for row in rows:
        fill_polygons(image, polygons[row], colors[row])
    for row in rows:
        if polygons[row]:
            draw_polygons(image, polygons[row], colors[row], style)
        else:
            draw_box(image, found.boxes_xyxy[row], colors[row], style)
    draw_chips(image, found, colors, style, order)
    return image


def to_polygons(contours: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Rings in OpenCV's format, without corners that move the line by less than `SMOOTHING`.

    Args:
        contours: The rings of each mask, (K, 2) float32 each, x y in pixels of the image.

    Returns:
        For each mask its polygons, (K', 1, 2) int32 each, in 1/16 of a pixel, from the centre of the first pixel.
    """
    # All rings at once, because they are many and short.
    corners = np.concatenate([_NO_RING, *chain.from_iterable(contours)])
    fixed = ((corners - 0.5) * (1 << _SHIFT)).astype(np.int32)
    # OpenCV draws each pixel-long step of a thick smooth line as a quad; a few longer steps look the same.
    tolerance = SMOOTHING * (1 << _SHIFT)
    polygons: list[list[Array]] = []
    start = 0
    for rings in contours:
        own = []
        for ring in rings:
            end = start + len(ring)
            own.append(cv2.approxPolyDP(fixed[start:end], tolerance, True))
            start = end
        polygons.append(own)
    return polygons


def fill_polygons(image: Array, polygons: Sequence[Array], color: Color) -> None:
    """Tint the inside of polygons (those of `to_polygons`), without the holes in them, in place."""
    if not polygons:
        return
    corners = polygons[0] if len(polygons) == 1 else np.concatenate(polygons)
    x, y, width, height = cv2.boundingRect(corners)
    left, top = max(0, x >> _SHIFT), max(0, y >> _SHIFT)
    right = (x + width + _HALF >> _SHIFT) + 1
    bottom = (y + height + _HALF >> _SHIFT) + 1
    part = image[top:bottom, left:right]
    solid = part.copy()
    cv2.fillPoly(solid, polygons, color, cv2.LINE_8, _SHIFT, (-left << _SHIFT, -top << _SHIFT))
    cv2.addWeighted(part, 1 - FILL, solid, FILL, 0, dst=part)


def draw_polygons(image: Array, polygons: Sequence[Array], color: Color, style: Style) -> None:
    """Draw the borders of polygons (those of `to_polygons`), in place."""
    # OpenCV's anti-aliased thick lines take three times as long. Steps are invisible in a line of three pixels, and an
    # anti-aliased line of one pixel over a plain one of two hides them.
    if style.line > 1:
        cv2.polylines(image, polygons, True, color, style.line, cv2.LINE_8, _SHIFT)
    if style.line < 3:
        cv2.polylines(image, polygons, True, color, 1, cv2.LINE_AA, _SHIFT)


def draw_box(image: Array, box_xyxy: Array, color: Color, style: Style) -> None:
    """Draw the box of an object whose mask is empty, in place."""
    x0, y0, x1, y1 = (round(v) for v in box_xyxy.tolist())
    cv2.rectangle(image, (x0, y0), (x1, y1), color, style.line)


def draw_chips(image: Array, found: Objects, colors: Sequence[Color], style: Style, order: Order = "rgb") -> None:
    """Label objects, those with the highest scores first; a label without free room at its object is left out."""
    taken: list[Rect] = []
    rows = zip(found.labels.tolist(), found.scores.tolist(), found.masks.contours, colors, strict=True)
    for row, (label, score, rings, color) in enumerate(rows):
        # Name and score are separate words, because words are cached: a hundred scores and a few names instead of all
        # pairs.
        name = render_word(f"{_number(found, row)}{found.names[label]} ", color, style, (style.pad, 0), order)
        share = render_word(f"{score:.0%}", color, style, (0, style.pad), order)
        size = (name.shape[1] + share.shape[1], name.shape[0])
        anchor = _anchor(rings, found.boxes_xyxy[row])
        rect = find_place(size, anchor, float(found.boxes_xyxy[row, 3]), image.shape[:2], taken)
        if rect is not None:
            taken.append(rect)
            put_word(image, name, rect.left, rect.top)
            put_word(image, share, rect.left + name.shape[1], rect.top)


@lru_cache(maxsize=_KEPT)
def render_word(text: str, color: Color, style: Style, margins: tuple[int, int], order: Order = "rgb") -> Array:
    """(h, w, 3) uint8: a word on a background of this colour, as high as a label; read-only.

    Args:
        text: The word.
        color: Colour of the background.
        style: Sizes.
        margins: Pixels to the left and to the right.
        order: Channel order of colour and word.
    """
    (text_w, _), _ = cv2.getTextSize(text, FONT, style.font_scale, 1)
    (_, text_h), baseline = cv2.getTextSize("g", FONT, style.font_scale, 1)
    word = np.full((text_h + baseline + style.pad, text_w + sum(margins), 3), color, np.uint8)
    origin = (margins[0], style.pad // 2 + text_h)
    cv2.putText(word, text, origin, FONT, style.font_scale, _text_color(color, order), 1, cv2.LINE_AA)
    word.setflags(write=False)
    return word


def put_word(image: Array, word: Array, left: int, top: int) -> None:
    """Copy a word into the image, clipped at its edges, in place."""
    part = image[top : top + word.shape[0], left : left + word.shape[1]]
    part[:] = word[: part.shape[0], : part.shape[1]]


def _number(found: Objects, row: int) -> str:
    """The track number of an object, before its name."""
    if found.ids is None or found.ids[row] < 0:
        return ""
    return f"#{found.ids[row]} "


def _anchor(rings: Sequence[Array], box_xyxy: Array) -> tuple[int, int]:
    """Anchor of a label: x y of the highest point of the mask, or of the box if the mask is empty."""
    highest = [ring[ring[:, 1].argmin()].tolist() for ring in rings]
    x, y = min(highest, key=lambda point: point[1], default=box_xyxy[:2])
    return round(float(x)), round(float(y))


def place_chip(size_wh: tuple[int, int], anchor_xy: tuple[int, int], image_hw: tuple[int, ...]) -> Rect:
    """A label's rectangle above the anchor or, without room, below it; always inside the image."""
    width, height = size_wh
    x, y = anchor_xy
    image_height, image_width = image_hw
    left = max(0, min(x - height // 2, image_width - width))
    has_room_above = y >= height
    top = y - height if has_room_above else max(0, min(y, image_height - height))
    return Rect(left, top, left + width, top + height)


def find_place(
    size_wh: tuple[int, int],
    anchor_xy: tuple[int, int],
    bottom: float,
    image_hw: tuple[int, ...],
    taken: Sequence[Rect],
) -> Rect | None:
    """The first free rectangle of a label, from above its anchor down to the object's bottom; None without one."""
    x, top = anchor_xy
    height = size_wh[1]
    for y in range(top, top + LABEL_PLACES * height, height):
        if y > max(top, bottom):
            break
        rect = place_chip(size_wh, (x, y), image_hw)
        if is_free(rect, taken):
            return rect
    return None


def is_free(rect: Rect, taken: Sequence[Rect]) -> bool:
    """Whether a rectangle shares no pixel with others."""
    x0, y0, x1, y1 = rect
    return all(x1 <= left or right <= x0 or y1 <= top or bottom <= y0 for left, top, right, bottom in taken)


def _text_color(color: Color, order: Order) -> Color:
    """Black or white, whichever has more contrast on this colour (Rec. 709 luma)."""
    red, green, blue = color if order == "rgb" else color[::-1]
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (16, 16, 16) if luma > 110 else (255, 255, 255)


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

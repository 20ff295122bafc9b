"""Objects cut out of photographs, with soft edges.

    coin    24 coins of one photograph; each rim is traced as the best closed path around its centre
    pebble  stones of the gravel photograph that a watershed separates cleanly
    cup     the cup and saucer of the coffee photograph, in glazes of other hues
    photo   prints with a white border: squares cut at random from whole photographs

What training sees and what is held out is divided here: other coins (upper and lower rows), other stones (left and
right half), other glazes and other prints. There is only one cup, so its shape is not new in validation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edge_mrcnn.data.scenes.photographs import read_photograph

CLASSES = ("coin", "pebble", "cup", "photo")
"""Class names; a label indexes this tuple, and the COCO category id is the label plus one."""

COIN_ROW_SPLIT_Y = 152
"""Rows of coins above this line of the photograph are for training, those below are held out, in pixels."""

_ANGLES = 256
_RIM_SAMPLES_PER_PIXEL = 4
_TRAIN_HUES = (0, 12, 100, 125)
_HELD_OUT_HUES = (55, 75)
"""Shifts of the red glaze on OpenCV's hue circle, in [0, 180)."""
_TRAIN_PRINTS = ("astronaut", "chelsea", "retina", "hubble")
_HELD_OUT_PRINTS = ("camera", "rocket")
_PRINTS_PER_PHOTOGRAPH = 4


@dataclass(frozen=True)
class Cutout:
    """One object without its background."""

    label: int
    """Index into `CLASSES`."""
    levels: tuple[np.ndarray, ...]
    """(h, w, 4) uint8 RGBA with colours premultiplied by alpha; each level is half the size of the previous one."""
    height: float
    """Its height above the surface, as a share of its own size; determines the length of its shadow."""

    @property
    def size(self) -> int:
        """Longer side of the first level, in pixels."""
        return max(int(side) for side in self.levels[0].shape[:2])


@functools.cache
def cut_objects(held_out: bool) -> tuple[tuple[Cutout, ...], ...]:
    """All cut-outs of training or validation, by label; made once per process.

    Args:
        held_out: False for the objects of training, True for those of validation.
    """
    groups = (cut_coins(held_out), cut_pebbles(held_out), cut_cups(held_out), cut_prints(held_out))
    return tuple(map(tuple, groups))


def cut_coins(held_out: bool) -> list[Cutout]:
    """The coins of the upper rows, or of the lower ones if `held_out`."""
    photo = read_photograph("coins")
    coins = []
    for rim in trace_coins():
        is_low = rim[:, 1].mean() > COIN_ROW_SPLIT_Y
        if is_low == held_out:
            coins.append(_cut(photo, rim, "coin", height=0.05, inset=0.7))
    return coins


@functools.cache
def trace_coins() -> tuple[np.ndarray, ...]:
    """Outline of each of the 24 coins, (256, 2) float64 x y in pixels of the coins photograph."""
    grey = read_photograph("coins")[..., 0]
    return tuple(_trace_rim(grey, centre, radius) for centre, radius in _find_coins(grey))


def _find_coins(grey: np.ndarray) -> list[tuple[tuple[float, float], float]]:
    """Centre and approximate radius of each coin, found by relief; brightness does not separate the upper coins from
    the background."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1).astype(np.float32)
    slope_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    slope_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    relief = 2 * cv2.GaussianBlur(cv2.magnitude(slope_x, slope_y), (0, 0), 1.5)
    _, mask = cv2.threshold(relief.clip(0, 255).astype(np.uint8), 0, 255, cv2.THRESH_OTSU)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(mask, contours, -1, 255, cv2.FILLED)
    depth = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    # at this depth, coins with touching halos separate
    count, cores = cv2.connectedComponents((depth > 12).astype(np.uint8))
    coins = []
    for index in range(1, count):
        core = (cores == index).astype(np.uint8)
        _, radius, _, (x, y) = cv2.minMaxLoc(depth, core)  # the deepest point is the centre
        coins.append(((float(x), float(y)), radius))
    return coins


def _trace_rim(grey: np.ndarray, centre: tuple[float, float], radius: float) -> np.ndarray:
    """The closed path around `centre` with the steepest step from bright to dark.

    Dynamic programming over (angle, radius) in polar coordinates: two rounds, of which the middle one is closed.

    Returns:
        (256, 2) float64 x y.
    """
    pad, reach = 64, 1.35
    smooth = cv2.GaussianBlur(grey, (0, 0), 0.7)
    framed = cv2.copyMakeBorder(smooth, pad, pad, pad, pad, cv2.BORDER_REPLICATE).astype(np.float32)
    samples = int(radius * _RIM_SAMPLES_PER_PIXEL)
    middle = (centre[0] + pad, centre[1] + pad)
    polar = cv2.warpPolar(framed, (samples, _ANGLES), middle, radius * reach, cv2.WARP_POLAR_LINEAR)

    fall = np.zeros_like(polar)
    fall[:, 3:-3] = polar[:, :-6] - polar[:, 6:]
    share = np.arange(samples) / samples * reach  # of the approximate radius
    gain = np.clip(fall, -20, 80) - 60 * np.abs(share - 0.97)
    gain[:, share < 0.7] = -1e3

    two_laps = _best_path(np.vstack([gain, gain]), step_cost=2.0)
    half = _ANGLES // 2
    lap = np.roll(two_laps[half : half + _ANGLES], half)
    angle = np.arange(_ANGLES) / _ANGLES * 2 * np.pi
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    distance = lap / samples * reach * radius
    return np.asarray(centre) + distance[:, None] * direction


def _best_path(gain: np.ndarray, step_cost: float) -> np.ndarray:
    """Column of each row on the path of greatest gain that moves by at most one column per row."""
    rows, columns = gain.shape
    total = gain.copy()
    came_from = np.zeros((rows, columns), int)
    for row in range(1, rows):
        last = np.pad(total[row - 1], 1, constant_values=-np.inf)
        from_left, straight, from_right = last[:-2] - step_cost, last[1:-1], last[2:] - step_cost
        choices = np.stack([from_left, straight, from_right])
        came_from[row] = np.arange(columns) + choices.argmax(axis=0) - 1
        total[row] += choices.max(axis=0)
    path = np.empty(rows, int)
    path[-1] = total[-1].argmax()
    for row in range(rows - 1, 0, -1):
        path[row - 1] = came_from[row, path[row]]
    return path


def cut_pebbles(held_out: bool) -> list[Cutout]:
    """Stones of the left half of the gravel, or of the right half if `held_out`."""
    photo = read_photograph("gravel")
    half = photo.shape[1] / 2
    stones = []
    for outline in _trace_stones():
        is_right = outline[:, 0].mean() > half
        if is_right == held_out:
            stones.append(_cut(photo, outline, "pebble", height=0.18, inset=0.8))
    return stones


@functools.cache
def _trace_stones() -> tuple[np.ndarray, ...]:
    """Outlines of whole, well separated stones: convex, large, not at the border, (N, 2) float64 x y."""
    from skimage.measure import regionprops  # the only use of scikit-image's code instead of only its files
    from skimage.segmentation import watershed

    zoom = 2
    grey = cv2.resize(read_photograph("gravel")[..., 0], None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    smooth = cv2.GaussianBlur(cv2.bilateralFilter(grey, 9, 40, 7), (0, 0), 2)
    around = cv2.GaussianBlur(grey, (0, 0), 25).astype(int)
    bright = (smooth > around - 8).astype(np.uint8)
    bright = cv2.morphologyEx(bright, cv2.MORPH_OPEN, _disc(5))
    depth = cv2.distanceTransform(bright, cv2.DIST_L2, 5)
    peaks = (depth == cv2.dilate(depth, _disc(17))) & (depth > 6)
    _, seeds = cv2.connectedComponents(peaks.astype(np.uint8))
    slope_x = cv2.Scharr(smooth, cv2.CV_32F, 1, 0)
    slope_y = cv2.Scharr(smooth, cv2.CV_32F, 0, 1)
    slope = cv2.magnitude(slope_x, slope_y) / (32 * 255)
    regions = watershed(slope - depth / 200, seeds, mask=bright > 0)
    outlines = []
    for region in regionprops(regions):
        if _is_clean_stone(region, grey.shape):
            outlines.append(_outline(regions == region.label) / zoom)
    return tuple(outlines)


def _disc(size: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _is_clean_stone(region: Any, shape: tuple[int, ...]) -> bool:
    """Whether a region of scikit-image is whole, convex, large and not too long."""
    top, left, bottom, right = region.bbox
    height, width = shape
    if min(top, left, height - bottom, width - right) <= 2:
        return False
    is_roundish = region.axis_major_length < 2 * region.axis_minor_length
    return bool(region.solidity > 0.93 and region.axis_minor_length > 20 and is_roundish)


def _outline(mask: np.ndarray) -> np.ndarray:
    """The longest contour of a mask, (N, 2) float64 x y."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longest = max(contours, key=len)
    return longest[:, 0].astype(np.float64)


def cut_cups(held_out: bool) -> list[Cutout]:
    """The cup on its saucer in several glazes; `held_out` ones have hues that are not in training."""
    photo = read_photograph("coffee")
    outline = _trace_cup()
    cups = []
    for hue in _HELD_OUT_HUES if held_out else _TRAIN_HUES:
        glazed = _turn_glaze(photo, hue)
        cups.append(_cut(glazed, outline, "cup", height=0.12, inset=0.8))
    return cups


def _trace_cup() -> np.ndarray:
    """Outline of saucer, cup rim and spoon, drawn by hand on the coffee photograph: (N, 2) float64 x y."""
    zoom = 4
    mask = np.zeros((400 * zoom, 600 * zoom), np.uint8)
    for centre, axes, angle in (((278.5, 219.25), (201, 167.75), 8), ((290, 113), (118, 95), 0)):
        scaled = [round(v * zoom) for v in (*centre, *axes)]
        cv2.ellipse(mask, scaled[:2], scaled[2:], angle, 0, 360, 255, cv2.FILLED)
    spoon = np.array([(398, 71), (404, 67.5), (414, 66.5), (423, 71), (424.5, 78), (420, 100), (415, 116), (400, 116)])
    cv2.fillPoly(mask, [np.round(spoon * zoom).astype(np.int32)], 255)
    return _outline(mask) / zoom


def _turn_glaze(photo: np.ndarray, hue: int) -> np.ndarray:
    """Change the hue of the red parts; the coffee, the rim and the spoon keep theirs."""
    hsv = cv2.cvtColor(photo, cv2.COLOR_RGB2HSV)
    old_hue, saturation, _ = np.moveaxis(hsv, 2, 0)
    is_red = ((old_hue < 9) | (old_hue > 172)) & (saturation > 110)
    closed = cv2.morphologyEx(is_red.astype(np.float32), cv2.MORPH_CLOSE, np.ones((3, 3)))
    share = cv2.GaussianBlur(closed, (0, 0), 0.8)[..., None]
    turned = hsv.copy()
    turned[..., 0] = (old_hue.astype(int) + hue) % 180
    glazed = cv2.cvtColor(turned, cv2.COLOR_HSV2RGB)
    return (glazed * share + photo * (1 - share)).astype(np.uint8)


def cut_prints(held_out: bool) -> list[Cutout]:
    """Paper prints with a white border, from photographs that the other split does not use."""
    rng = np.random.default_rng(7 + held_out)
    prints = []
    for name in _HELD_OUT_PRINTS if held_out else _TRAIN_PRINTS:
        photo = read_photograph(name)
        for _ in range(_PRINTS_PER_PHOTOGRAPH):
            prints.append(_print(photo, rng))
    return prints


def _print(photo: np.ndarray, rng: np.random.Generator) -> Cutout:
    """A random piece of a photograph with a white border."""
    tall, wide = photo.shape[:2]
    h = int(tall * rng.uniform(0.55, 1))
    w = int(wide * rng.uniform(0.55, 1))
    y = rng.integers(tall - h + 1)
    x = rng.integers(wide - w + 1)
    scale = 300 / max(h, w)
    image = cv2.resize(photo[y : y + h, x : x + w], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    border = int(rng.uniform(9, 20))
    paper = cv2.copyMakeBorder(image, *(border,) * 4, cv2.BORDER_CONSTANT, value=(246, 244, 238))
    h, w = paper.shape[:2]
    outline = np.array([(0, 0), (w, 0), (w, h), (0, h)], float)
    return _cut(paper, outline, "photo", height=0.02, inset=1.0)


def _cut(photo: np.ndarray, outline: np.ndarray, name: str, *, height: float, inset: float) -> Cutout:
    """Cut along an outline, without the outermost `inset` pixels, where the photograph mixes in its background.

    The cut-out is made at twice the photograph's size, so that a smooth outline stays smooth when enlarged.
    """
    zoom, shift = 2, 4
    photo_height, photo_width = photo.shape[:2]
    low = np.floor(outline.min(axis=0)).astype(int)
    high = np.ceil(outline.max(axis=0)).astype(int) + 1
    low = np.maximum(low, 0)
    left, top = low
    right, bottom = np.minimum(high, (photo_width, photo_height))
    rgb = photo[top:bottom, left:right]
    rgb = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    # a pixel's centre is at (x + 0.5) * zoom - 0.5 of the enlarged grid
    corners = ((outline - low + 0.5) * zoom - 0.5) * (1 << shift)
    solid = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(solid, [np.round(corners).astype(np.int32)], 255, cv2.LINE_8, shift)
    solid = cv2.copyMakeBorder(solid, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    depth = cv2.distanceTransform(solid, cv2.DIST_L2, 5)[1:-1, 1:-1]
    smooth_depth = cv2.GaussianBlur(depth, (0, 0), 1)
    alpha = np.clip((smooth_depth - inset * zoom + 1) / 2, 0, 1)[..., None]
    rgba = np.concatenate([rgb * alpha, 255 * alpha], axis=2).round().astype(np.uint8)
    return Cutout(CLASSES.index(name), _halve(rgba), height)


def _halve(image: np.ndarray) -> tuple[np.ndarray, ...]:
    """The image, and further levels, each half the size of the previous one."""
    levels = [image]
    while max(levels[-1].shape) > 40:
        levels.append(cv2.pyrDown(levels[-1], borderType=cv2.BORDER_REPLICATE))
    return tuple(levels)

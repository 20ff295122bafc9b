"""Generated images for verifying a model file: an empty one, a sparse one and a crowded one.

They are coarse drawings in few colours, so that a PNG of 320 x 320 pixels takes a few kilobytes and fits into the model
file. It is not known what a model detects in them: many are drawn, and those with few and with many detections are
chosen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np

from runtimes.base import Array, RawOutputs, Runtime

TRIALS = 16
"""Number of drawings from which the sparse and the crowded image are chosen."""
CELL = 2
"""Side of the squares of a drawing, in input pixels; large ones compress well."""
CLEAR = 0.5
"""Score that a sparse image's best detection should reach: far from the threshold, where rounding decides."""

NamedPicture = tuple[str, Array, RawOutputs]
"""Name, (1, H, W, 3) uint8 RGB, and the reference's outputs."""


def choose_pictures(reference: Runtime, seed: int = 0, *, trials: int = TRIALS) -> list[NamedPicture]:
    """An empty, a sparse and a crowded image for a model, with its outputs.

    Args:
        reference: The torch model.
        seed: Random seed of the drawings.
        trials: Number of drawings to choose from.

    Returns:
        "empty", plain gray; "sparse", the drawing with the fewest detections of which one has a high score; "crowded",
        the drawing with the most. A model without detections gets images nevertheless.
    """
    size = reference.card.input_size_hw
    empty = np.full((1, *size, 3), 128, dtype=np.uint8)
    drawings = list(draw_pictures(size, seed, trials=trials))
    outputs = [reference.run(drawing) for drawing in drawings]
    numbers = range(len(drawings))
    sparse = min(numbers, key=lambda number: _crowding_of_clear(outputs[number]))
    crowded = max(numbers, key=lambda number: _crowding(outputs[number]))
    return [
        ("empty", empty, reference.run(empty)),
        ("sparse", drawings[sparse], outputs[sparse]),
        ("crowded", drawings[crowded], outputs[crowded]),
    ]


def _crowding(output: RawOutputs) -> tuple[int, float]:
    """Sort key: larger for more detections, then for higher scores."""
    return len(output.scores), output.scores.sum()


def _crowding_of_clear(output: RawOutputs) -> tuple[bool, int, float]:
    """Sort key: smaller for fewer detections; drawings without a high score come last, the highest of them first."""
    best = float(output.scores.max(initial=0))
    is_unclear = best < CLEAR
    count = 0 if is_unclear else len(output.scores)
    return is_unclear, count, -best


def draw_pictures(size_hw: tuple[int, int], seed: int = 0, *, trials: int = TRIALS) -> Iterator[Array]:
    """Drawings, from one figure to many.

    Args:
        size_hw: Height and width of the model's input, in pixels.
        seed: Random seed.
        trials: Number of drawings.

    Yields:
        (1, H, W, 3) uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    for count in np.geomspace(1, 40, trials).round().astype(int):
        canvas = _draw(size_hw, int(count), rng)
        yield _enlarge(canvas, size_hw)[None]


def _draw(size_hw: tuple[int, int], count: int, rng: np.random.Generator) -> Array:
    """A drawing in cells: figures on a plain background, larger ones if there are few."""
    height, width = (math.ceil(side / CELL) for side in size_hw)
    ground = rng.integers(40, 216, 3)
    canvas = np.full((height, width, 3), ground, dtype=np.uint8)
    radius = 0.42 * min(height, width) / np.sqrt(count)
    for _ in range(count):
        # Leave at least one pixel to move, even for a figure as large as the image.
        right, bottom = max(radius + 1, width - radius), max(radius + 1, height - radius)
        center = rng.uniform((radius, radius), (right, bottom))
        draw = FIGURES[rng.integers(len(FIGURES))]
        size = radius * rng.uniform(0.8, 1.5)
        draw(canvas, center, size, rng)
    return canvas


def _draw_person(canvas: Array, center: Array, radius: float, rng: np.random.Generator) -> None:
    """A head, a torso and two legs: most models of this kind are trained for people."""
    x, y = center
    skin, coat, trousers = _colours(rng, 3)
    inner, outer, feet = 0.05 * radius, 0.3 * radius, y + radius
    cv2.rectangle(canvas, _point(x - outer, y), _point(x - inner, feet), trousers, cv2.FILLED)
    cv2.rectangle(canvas, _point(x + inner, y), _point(x + outer, feet), trousers, cv2.FILLED)
    trunk, trunk_axes = _point(x, y - 0.2 * radius), _point(0.38 * radius, 0.5 * radius)
    cv2.ellipse(canvas, trunk, trunk_axes, 0, 0, 360, coat, cv2.FILLED)
    head, head_radius = _point(x, y - 0.85 * radius), max(1, round(0.2 * radius))
    cv2.circle(canvas, head, head_radius, skin, cv2.FILLED)


def _draw_disc(canvas: Array, center: Array, radius: float, rng: np.random.Generator) -> None:
    """A disc with a rim."""
    inside, rim = _colours(rng, 2)
    middle = _point(*center)
    disc_radius = max(1, round(0.7 * radius))
    cv2.circle(canvas, middle, disc_radius, inside, cv2.FILLED)
    cv2.circle(canvas, middle, disc_radius, rim, 1)


def _draw_box(canvas: Array, center: Array, radius: float, rng: np.random.Generator) -> None:
    """A box with a band across it."""
    x, y = center
    side, band = _colours(rng, 2)
    width = radius * rng.uniform(0.4, 0.9)
    height = radius * rng.uniform(0.4, 0.9)
    left, right, band_height = x - width, x + width, 0.2 * height
    cv2.rectangle(canvas, _point(left, y - height), _point(right, y + height), side, cv2.FILLED)
    cv2.rectangle(canvas, _point(left, y - band_height), _point(right, y + band_height), band, cv2.FILLED)


FIGURES = (_draw_person, _draw_person, _draw_disc, _draw_box)
"""Figures of the drawings, persons twice as often."""


def _enlarge(canvas: Array, size_hw: tuple[int, int]) -> Array:
    """Cells to pixels."""
    height, width = size_hw
    enlarged = canvas.repeat(CELL, axis=0).repeat(CELL, axis=1)
    pixels: Array = enlarged[:height, :width]
    return np.ascontiguousarray(pixels)


def _colours(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    colours = rng.integers(0, 256, (count, 3))
    return [(int(r), int(g), int(b)) for r, g, b in colours]


def _point(x: float, y: float) -> tuple[int, int]:
    return round(float(x)), round(float(y))

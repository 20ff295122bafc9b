"""Generated pictures that an artefact is verified on: an empty one, a sparse one and a crowded one.

They are coarse drawings in few colours, so that a PNG of 320 x 320 pixels takes a few kilobytes and can travel inside
the artefact. What a model sees in them is its own business: many are drawn, and those in which it finds a little and
a lot are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from runtimes.base import Array, RawOutputs, Runtime

TRIALS = 16
"""Drawings from which the sparse and the crowded picture are chosen."""
CELL = 2
"""Pixels of a picture are squares of this side, in input pixels, which compresses well."""
CLEAR = 0.5
"""Score that a sparse picture's best detection should reach: far from the threshold, where rounding decides."""

NamedPicture = tuple[str, Array, RawOutputs]
"""Name, (1, H, W, 3) uint8 RGB, and the reference's answer."""


def choose_pictures(reference: Runtime, seed: int = 0) -> list[NamedPicture]:
    """An empty, a sparse and a crowded picture for a model, with its answers.

    Args:
        reference: The torch model.
        seed: Of the drawings.

    Returns:
        "empty", plain gray; "sparse", the drawing with the fewest detections of which one is clear;
        "crowded", the drawing with the most. A model that finds nothing in any gets pictures all the same.
    """
    size = reference.card.input_size_hw
    empty = np.full((1, *size, 3), 128, dtype=np.uint8)
    answered = [(picture, reference.run(picture)) for picture in draw_pictures(size, seed)]
    sparse = min(answered, key=lambda pair: _emptiness(pair[1]))
    crowded = max(answered, key=lambda pair: (len(pair[1].scores), pair[1].scores.sum()))
    return [("empty", empty, reference.run(empty)), ("sparse", *sparse), ("crowded", *crowded)]


def _emptiness(answer: RawOutputs) -> tuple[bool, int, float]:
    best = float(answer.scores.max(initial=0))
    return best < CLEAR, len(answer.scores) if best >= CLEAR else 0, -best


def draw_pictures(size_hw: tuple[int, int], seed: int = 0) -> Iterator[Array]:
    """`TRIALS` drawings, from one figure to many.

    Args:
        size_hw: Height and width of the model's input, in pixels.
        seed: Same seed, same drawings.

    Yields:
        (1, H, W, 3) uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    for count in np.geomspace(1, 40, TRIALS).round().astype(int):
        yield _enlarge(_draw(size_hw, int(count), rng), size_hw)[None]


def _draw(size_hw: tuple[int, int], count: int, rng: np.random.Generator) -> Array:
    """A drawing in cells: figures on a plain ground, the fewer the larger."""
    height, width = (-(-side // CELL) for side in size_hw)
    ground = rng.integers(40, 216, 3)
    canvas = np.full((height, width, 3), ground, dtype=np.uint8)
    radius = 0.42 * min(height, width) / np.sqrt(count)
    for _ in range(count):
        center = rng.uniform((radius, radius), (max(radius + 1, width - radius), max(radius + 1, height - radius)))
        draw = FIGURES[rng.integers(len(FIGURES))]
        draw(canvas, center, radius * rng.uniform(0.8, 1.5), rng)
    return canvas


def _draw_person(canvas: Array, center: Array, radius: float, rng: np.random.Generator) -> None:
    """A head above a trunk above two legs: what most models of this kind are trained for."""
    (x, y), (skin, coat, trousers) = center, _colours(rng, 3)
    cv2.rectangle(canvas, _point(x - 0.3 * radius, y), _point(x - 0.05 * radius, y + radius), trousers, -1)
    cv2.rectangle(canvas, _point(x + 0.05 * radius, y), _point(x + 0.3 * radius, y + radius), trousers, -1)
    cv2.ellipse(canvas, _point(x, y - 0.2 * radius), _point(0.38 * radius, 0.5 * radius), 0, 0, 360, coat, -1)
    cv2.circle(canvas, _point(x, y - 0.85 * radius), max(1, round(0.2 * radius)), skin, -1)


def _draw_disc(canvas: Array, center: Array, radius: float, rng: np.random.Generator) -> None:
    """A disc with a rim."""
    inside, rim = _colours(rng, 2)
    cv2.circle(canvas, _point(*center), max(1, round(0.7 * radius)), inside, -1)
    cv2.circle(canvas, _point(*center), max(1, round(0.7 * radius)), rim, 1)


def _draw_box(canvas: Array, center: Array, radius: float, rng: np.random.Generator) -> None:
    """A box with a band across it."""
    (x, y), (side, band) = center, _colours(rng, 2)
    width, height = radius * rng.uniform(0.4, 0.9), radius * rng.uniform(0.4, 0.9)
    cv2.rectangle(canvas, _point(x - width, y - height), _point(x + width, y + height), side, -1)
    cv2.rectangle(canvas, _point(x - width, y - 0.2 * height), _point(x + width, y + 0.2 * height), band, -1)


FIGURES = (_draw_person, _draw_person, _draw_disc, _draw_box)
"""What drawings show, persons twice as often."""


def _enlarge(canvas: Array, size_hw: tuple[int, int]) -> Array:
    """Cells to pixels."""
    height, width = size_hw
    pixels: Array = canvas.repeat(CELL, axis=0).repeat(CELL, axis=1)[:height, :width]
    return np.ascontiguousarray(pixels)


def _colours(rng: np.random.Generator, count: int) -> list[tuple[int, int, int]]:
    return [(int(r), int(g), int(b)) for r, g, b in rng.integers(0, 256, (count, 3))]


def _point(x: float, y: float) -> tuple[int, int]:
    return round(float(x)), round(float(y))

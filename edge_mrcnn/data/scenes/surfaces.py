"""Surfaces under the objects: parts of photographs without objects, warped to any size and tinted.

Training and validation never share a part of a photograph.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np

from edge_mrcnn.data.scenes.cutouts import COIN_ROW_SPLIT_Y, trace_coins
from edge_mrcnn.data.scenes.photographs import read_photograph


@dataclass(frozen=True)
class Surface:
    """A flat piece of photograph."""

    levels: tuple[np.ndarray, ...]
    """(h, w, 3) uint8 RGB, at least 2 x 2; each level is half the size of the previous one."""
    zoom: tuple[float, float]
    """Range of magnification in which it looks realistic at 320 pixels, in scene pixels per photograph pixel."""


_REGIONS = {  # (photograph, y0, y1, x0, x1, least zoom, greatest zoom); pixels of the photograph
    False: (
        ("brick", 0, 512, 0, 512, 0.8, 2.0),
        ("grass", 0, 512, 0, 512, 0.7, 1.8),
        ("coffee", 20, 300, 480, 600, 1.6, 3.2),
        ("ihc", 0, 512, 0, 512, 0.8, 2.5),
        ("clock", 0, 80, 0, 400, 1.5, 4.0),
        ("retina", 350, 1050, 500, 1250, 0.7, 1.6),
    ),
    True: (
        ("coffee", 115, 310, 0, 72, 2.6, 4.0),
        ("camera", 300, 512, 425, 512, 1.2, 2.5),
        ("text", 0, 172, 0, 448, 1.0, 2.5),
        ("rocket", 0, 110, 110, 300, 2.0, 4.0),
    ),
}


@functools.cache
def list_surfaces(held_out: bool) -> tuple[Surface, ...]:
    """The surfaces of training, or those of validation if `held_out`; made once per process."""
    surfaces = [
        Surface(_halve(read_photograph(name)[y0:y1, x0:x1]), (least, greatest))
        for name, y0, y1, x0, x1, least, greatest in _REGIONS[held_out]
    ]
    if not held_out:
        surfaces.append(Surface(_halve(_clear_coin_tray()), (1.5, 4.0)))
    return tuple(surfaces)


def _clear_coin_tray() -> np.ndarray:
    """The background of the coins photograph above the split line, with its coins inpainted."""
    tray = read_photograph("coins")[:COIN_ROW_SPLIT_Y].copy()
    coins = np.zeros(tray.shape[:2], np.uint8)
    for rim in trace_coins():
        cv2.fillPoly(coins, [rim.round().astype(np.int32)], 255)
    coins = cv2.dilate(coins, np.ones((11, 11)))
    ground = cv2.inpaint(tray, coins, 5, cv2.INPAINT_TELEA)
    grain = np.random.default_rng(3).normal(0, 4, tray.shape[:2])[..., None]
    return np.clip(ground + grain * (coins > 0)[..., None], 0, 255).astype(np.uint8)[:, 8:376]


def warp_surface(surface: Surface, matrix: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Render a surface; beyond its edges it is mirrored.

    Args:
        surface: The surface.
        matrix: (2, 3) from pixels of the surface's first level to pixels of the picture.
        size_hw: Height and width of the picture.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    level, matrix = pick_level(surface.levels, matrix)
    return cv2.warpAffine(level, matrix, size_hw[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def pick_level(levels: tuple[np.ndarray, ...], matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The next larger level than the wanted size, and the matrix adapted to it: more downscaling would alias."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    index = int(np.clip(np.floor(-np.log2(max(scale, 1e-6)) + 0.3), 0, len(levels) - 1))
    factor = 2.0**index
    shrunk = matrix.astype(np.float64).copy()
    shrunk[:, 2] += shrunk[:, :2].sum(1) * (factor - 1) / 2  # level pixel i is centred at factor * (i + 0.5) - 0.5
    shrunk[:, :2] *= factor
    return levels[index], shrunk


def _halve(image: np.ndarray) -> tuple[np.ndarray, ...]:
    levels = [image]
    while len(levels) < 3:
        levels.append(cv2.pyrDown(levels[-1]))
    return tuple(levels)

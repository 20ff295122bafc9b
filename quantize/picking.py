"""Selection of calibration images that together show every class, size, brightness and crowding about equally often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ImageError

LIGHTS = ("dark", "dim", "bright", "glaring")
"""Names of the four equal ranges of mean brightness."""


@dataclass(frozen=True)
class CalibrationCandidate:
    """A candidate for calibration."""

    file: Path
    """The image file."""
    facets: frozenset[str]
    """Its facets, in words: "class person", "small object", "dark"."""
    source: str
    """Its source, for the manifest."""


def pick(
    candidates: Sequence[CalibrationCandidate], count: int, seed: int = 0
) -> list[tuple[CalibrationCandidate, str]]:
    """Select images whose facets are covered evenly.

    Each next image is the one whose facets were selected least so far: each facet counts 1 / (1 + times that it was
    selected). Ties are broken in a random order by the seed.

    Args:
        candidates: Images to select from.
        count: Number of images to select; all, if there are fewer.
        seed: Random seed.

    Returns:
        The selected images in order, each with the reason in words.
    """
    order = np.random.default_rng(seed).permutation(len(candidates))
    shuffled = [candidates[place] for place in order]
    facets: set[str] = set()
    for candidate in shuffled:
        facets |= candidate.facets
    names = sorted(facets)
    # A row per image, with 1 for each of its facets.
    shown = np.zeros((len(shuffled), len(names)))
    for row, candidate in zip(shown, shuffled, strict=True):
        row[:] = [name in candidate.facets for name in names]
    is_left = np.ones(len(shuffled), dtype=bool)
    taken = np.zeros(len(names))
    chosen = []
    for _ in range(min(count, len(shuffled))):
        worth = shown @ (1 / (1 + taken))
        best = int(np.argmax(np.where(is_left, worth, -1)))
        times = dict(zip(names, taken.tolist(), strict=True))
        chosen.append((shuffled[best], _reason(shuffled[best], times)))
        taken += shown[best]
        is_left[best] = False
    return chosen


def _reason(candidate: CalibrationCandidate, taken: dict[str, float]) -> str:
    """Its facets, those rarest in the set first."""
    rarest_first = sorted(candidate.facets, key=lambda facet: (taken[facet], facet))
    return ", ".join(rarest_first)


def light_of(gray: NDArray[np.uint8]) -> str:
    """One of `LIGHTS` for a (h, w) uint8 gray image."""
    quarter = int(gray.mean() // 64)
    return LIGHTS[min(quarter, len(LIGHTS) - 1)]


def read_gray(file: Path) -> NDArray[np.uint8]:
    """An image in gray at an eighth of its size, which JPEG decoders compute at almost no cost.

    Returns:
        (h, w) uint8.

    Raises:
        ImageError: If it cannot be decoded.
    """
    gray = cv2.imread(str(file), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    if gray is None:
        raise ImageError(f"{file}: expected an image; this file is damaged or of another type")
    return np.asarray(gray, dtype=np.uint8)

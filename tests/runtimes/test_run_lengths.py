"""Run lengths of masks against those of pycocotools."""

from __future__ import annotations

import numpy as np
import pytest

from runtimes.postprocess import Region, fill_dense, paste_mask
from runtimes.run_lengths import encode_masks, encode_rle

coco = pytest.importorskip("pycocotools.mask")


def random_region(rng: np.random.Generator) -> tuple[Region, tuple[int, int]]:
    height, width = (int(n) for n in rng.integers(1, 40, 2))
    y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
    shape = rng.integers(0, height - y + 1), rng.integers(0, width - x + 1)
    return Region(x, y, rng.random(shape) < rng.choice([0, 0.2, 0.9, 1])), (height, width)


def test_rle_is_that_of_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(500):
        region, size = random_region(rng)
        dense = fill_dense([region], size)[0]
        expected = coco.encode(np.asfortranarray(dense, dtype=np.uint8))
        assert encode_rle(region, size) == {"size": list(size), "counts": expected["counts"].decode()}


def random_masks(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks of noise and of whole cells, in frames that may leave the image or have no area."""
    cells = int(rng.integers(1, 30))
    shape = (count, cells, cells)
    probs = np.where(rng.random((count, 1, 1)) < 0.5, rng.random(shape), rng.integers(0, 2, shape))
    corners = rng.uniform(-20, 60, (count, 2))
    frames = np.concatenate([corners, corners + rng.uniform(-2, 60, (count, 2))], axis=1)
    return probs.astype(np.float32), frames.astype(np.float32)


def test_rle_of_several_masks_without_pixels_is_that_of_the_pixels_of_each():
    rng = np.random.default_rng(2)
    for count in (*range(9), *[4] * 60):
        probs, frames = random_masks(rng, count)
        size = tuple(int(side) for side in rng.integers(1, 60, 2))
        pasted = [paste_mask(*pair, size) for pair in zip(probs, frames, strict=True)]
        dense = fill_dense(pasted, size).astype(np.uint8)
        expected = [coco.encode(np.asfortranarray(plane))["counts"].decode() for plane in dense]
        assert [one["counts"] for one in encode_masks(probs, frames, size)] == expected


def test_rle_of_a_large_image_decodes_to_the_mask():
    rows, columns = np.mgrid[:1080, :1920]
    disc = (rows - 500) ** 2 + (columns - 900) ** 2 < 400**2
    rle = encode_rle(Region(0, 0, disc), disc.shape)
    np.testing.assert_array_equal(coco.decode(rle), disc)


@pytest.mark.parametrize("mask", [np.zeros((4, 5), bool), np.ones((4, 5), bool), np.zeros((0, 0), bool)])
def test_rle_of_nothing_and_of_everything(mask):
    dense = fill_dense([Region(0, 0, mask)], (4, 5))[0]
    expected = coco.encode(np.asfortranarray(dense, dtype=np.uint8))["counts"].decode()
    assert encode_rle(Region(0, 0, mask), (4, 5))["counts"] == expected

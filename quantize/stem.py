"""Rounding of the weights of the first convolution so that their errors cancel in images.

Neighbouring pixels and the colours of one pixel are similar. If weights are rounded independently, the error is the sum
of their errors times the brightness, which is more than the rounding of the results. If they are rounded one after
another, each compensating for earlier errors, the error is a fifth of that.

Source: GPTQ, arXiv 2210.17323, section 3, here with the largest weight of a channel first, because it sets the scale.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
"""Value of a channel's largest weight as a symmetric 8-bit integer."""
PICTURES = 16
"""Number of images that is enough for the correlations of pixels: some hundred thousand patches."""
DAMPING = 1e-4
"""Added to the second moments, as a share of their mean or of 1, so that those of black images can be inverted."""

Floats = NDArray[np.float64]


def round_weights(weights: NDArray[np.float32], tensors: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Round the weights of an image convolution to the grid of symmetric 8-bit integers.

    Args:
        weights: (N, 3, h, w); any factor on the pixels may be included.
        tensors: (n, H, W, 3) uint8 images like those of later use.

    Returns:
        (N, 3, h, w): multiples of each channel's largest weight / 127; the largest weight is unchanged.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    moments = second_moments(tensors, weights.shape[2:])
    rounded = np.stack([_round_row(row, moments) for row in rows])
    return rounded.reshape(weights.shape).astype(np.float32)


def second_moments(tensors: Iterable[NDArray[np.uint8]], size_hw: tuple[int, ...]) -> Floats:
    """(K, K) mean products of the K = 3 h w inputs of a convolution, at every second position."""
    total = np.zeros(())
    count = 0
    for tensor in tensors:
        windows = np.lib.stride_tricks.sliding_window_view(tensor, size_hw, axis=(1, 2))
        every_second = windows[:, ::2, ::2]
        values_at_once = every_second[0, 0, 0].size
        patches = every_second.reshape(-1, values_at_once).astype(np.float64)
        total = total + patches.T @ patches
        count += len(patches)
    moments: Floats = total / count
    return moments


def _round_row(row: Floats, moments: Floats) -> Floats:
    """Round the weights of one channel, each compensating for the errors of earlier ones."""
    order = np.argsort(-np.abs(row), kind="stable")
    scale = float(np.abs(row).max()) / LARGEST
    if scale == 0:
        return row
    mean_square = float(np.diag(moments).mean())
    damping = DAMPING * max(mean_square, 1.0)
    damped = moments[np.ix_(order, order)] + damping * np.eye(len(row))
    # Each row says how GPTQ spreads the error of a weight over the later weights.
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T
    wanted = row[order]
    result = np.empty_like(row)
    for place, share in enumerate(shares):
        steps = np.clip(np.rint(wanted[place] / scale), -LARGEST, LARGEST)
        rounded = scale * steps
        error = (wanted[place] - rounded) / share[place]
        wanted[place:] -= error * share[place:]
        result[order[place]] = rounded
    return result

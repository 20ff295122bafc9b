"""Weights of the first convolution, rounded so that their errors cancel in pictures.

Neighbouring pixels and the colours of one pixel are much alike. Weights that are rounded apart err by the sum of their
errors times the brightness, which is more than rounding the results costs; rounded one after the other, each making up
for the errors before it, they err by a fifth of that.

Source: GPTQ, arXiv 2210.17323, section 3, here with the largest weight of a channel first, since that sets the scale.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LARGEST = 127
"""Of a symmetric 8-bit integer: what the largest weight of a channel becomes."""
PICTURES = 16
"""That suffice to know how pixels go together: some hundred thousand patches."""
DAMPING = 1e-4
"""Added to the second moments, as a share of their mean or of 1, so that those of black pictures can be inverted."""

Floats = NDArray[np.float64]


def settle_weights(weights: NDArray[np.float32], tensors: Iterable[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Move the weights of a convolution of pictures to where symmetric 8-bit rounding leaves them.

    Args:
        weights: (N, 3, h, w); any factor of the pixels may be in them.
        tensors: (n, H, W, 3) uint8 pictures that are like those to come.

    Returns:
        (N, 3, h, w): multiples of each channel's largest weight / 127, which itself stays.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    moments = second_moments(tensors, weights.shape[2:])
    return np.stack([_settle_row(row, moments) for row in rows]).reshape(weights.shape).astype(np.float32)


def second_moments(tensors: Iterable[NDArray[np.uint8]], size_hw: tuple[int, ...]) -> Floats:
    """(K, K) mean products of the K = 3 h w values that a convolution sees at once, for every second place."""
    total, count = np.zeros(()), 0
    for tensor in tensors:
        windows = np.lib.stride_tricks.sliding_window_view(tensor, size_hw, axis=(1, 2))[:, ::2, ::2]
        patches = windows.reshape(-1, windows[0, 0, 0].size).astype(np.float64)
        total, count = total + patches.T @ patches, count + len(patches)
    moments: Floats = total / count
    return moments


def _settle_row(row: Floats, moments: Floats) -> Floats:
    order = np.argsort(-np.abs(row), kind="stable")
    scale = float(np.abs(row).max()) / LARGEST
    if scale == 0:
        return row
    damping = DAMPING * max(float(np.diag(moments).mean()), 1.0)
    damped = moments[np.ix_(order, order)] + damping * np.eye(len(row))
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T
    wanted, settled = row[order], np.empty_like(row)
    for place, share in enumerate(shares):
        settled[order[place]] = scale * np.clip(np.rint(wanted[place] / scale), -LARGEST, LARGEST)
        error = (wanted[place] - settled[order[place]]) / share[place]
        wanted[place:] -= error * share[place:]
    return settled

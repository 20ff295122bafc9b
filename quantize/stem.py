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
    settled = np.stack([_settle_row(row, moments) for row in rows])
    return settled.reshape(weights.shape).astype(np.float32)


def second_moments(tensors: Iterable[NDArray[np.uint8]], size_hw: tuple[int, ...]) -> Floats:
    """(K, K) mean products of the K = 3 h w values that a convolution sees at once, for every second place."""
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


def _settle_row(row: Floats, moments: Floats) -> Floats:
    """Round the weights of one channel, each making up for the errors of those before it."""
    order = np.argsort(-np.abs(row), kind="stable")
    scale = float(np.abs(row).max()) / LARGEST
    if scale == 0:
        return row
    mean_square = float(np.diag(moments).mean())
    damping = DAMPING * max(mean_square, 1.0)
    damped = moments[np.ix_(order, order)] + damping * np.eye(len(row))
    # How the error of a weight is shared out among those behind it: the rows of GPTQ's Cholesky factor.
    shares = np.linalg.cholesky(np.linalg.inv(damped)).T
    wanted = row[order]
    settled = np.empty_like(row)
    for place, share in enumerate(shares):
        steps = np.clip(np.rint(wanted[place] / scale), -LARGEST, LARGEST)
        rounded = scale * steps
        error = (wanted[place] - rounded) / share[place]
        wanted[place:] -= error * share[place:]
        settled[order[place]] = rounded
    return settled

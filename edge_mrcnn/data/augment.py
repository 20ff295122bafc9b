"""Augmentation of a picture with its masks together, in numpy and OpenCV.

All randomness comes from the generator that is handed in, so a sample is a function of its seed.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from edge_mrcnn.config import TrainConfig


def resize_masks(masks: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """(N, h, w) uint8 of 0 and 1 to (N, *size_hw), interpolated and cut at one half."""
    resized = np.zeros((len(masks), *size_hw), np.uint8)
    shrinks = len(masks) and min(size_hw[0] / masks.shape[1], size_hw[1] / masks.shape[2]) < 0.5
    for mask, target in zip(masks, resized, strict=True):
        if shrinks:  # linear interpolation would skip pixels
            target[:] = cv2.resize(mask * 255, size_hw[::-1], interpolation=cv2.INTER_AREA) > 127
        else:
            _resize_part(mask, target)
    return resized


def _resize_part(mask: np.ndarray, target: np.ndarray) -> None:
    """Resize a mask into `target`, which is blank, where it is not blank."""
    x, y, width, height = cv2.boundingRect(mask)
    scale_y, scale_x = (new / old for new, old in zip(target.shape, mask.shape, strict=True))
    left, top = int(x * scale_x), int(y * scale_y)
    right = min(math.ceil((x + width) * scale_x), target.shape[1])
    bottom = min(math.ceil((y + height) * scale_y), target.shape[0])
    if right <= left or bottom <= top:
        return
    shift_x = scale_x * (x + 0.5) - 0.5 - left
    shift_y = scale_y * (y + 0.5) - 0.5 - top
    matrix = np.array([[scale_x, 0, shift_x], [0, scale_y, shift_y]])
    part = cv2.warpAffine(mask[y : y + height, x : x + width] * 255, matrix, (right - left, bottom - top))
    target[top:bottom, left:right] = part > 127


def random_view(
    image: np.ndarray,
    masks: np.ndarray,
    size_hw: tuple[int, int],
    pad_rgb: tuple[int, int, int],
    config: TrainConfig,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """A random scale, place and mirror image of a picture on a canvas ("large scale jitter", arXiv 2012.07177, 3).

    Args:
        image: (h, w, 3) uint8 RGB.
        masks: (N, h, w) uint8 of 0 and 1.
        size_hw: Canvas in pixels.
        pad_rgb: Colour of what the picture does not cover.
        config: Ranges and probabilities.
        rng: Source of randomness.

    Returns:
        Image (H, W, 3) and masks (N, H, W), of the canvas.
    """
    height, width = size_hw
    fit = min(height / image.shape[0], width / image.shape[1])
    scale = fit * np.exp(rng.uniform(*np.log(config.scale_jitter)))
    new_hw = tuple(max(1, round(side * scale)) for side in image.shape[:2])
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = cv2.resize(image, new_hw[::-1], interpolation=interpolation)
    masks = resize_masks(masks, new_hw)
    source_y, target_y, rows = _place(new_hw[0], height, rng)
    source_x, target_x, columns = _place(new_hw[1], width, rng)
    take = np.s_[source_y : source_y + rows, source_x : source_x + columns]
    put = np.s_[target_y : target_y + rows, target_x : target_x + columns]
    border = (target_y, height - target_y - rows, target_x, width - target_x - columns)
    canvas = cv2.copyMakeBorder(image[take], *border, cv2.BORDER_CONSTANT, value=pad_rgb)
    canvas_masks = np.zeros((len(masks), height, width), np.uint8)
    canvas_masks[(slice(None), *put)] = masks[(slice(None), *take)]
    if rng.random() < config.flip:
        canvas, canvas_masks = canvas[:, ::-1], canvas_masks[:, :, ::-1]
    return canvas, canvas_masks


def _place(length: int, room: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """Start in the picture, start on the canvas, and length of the part that is seen along one axis."""
    if length >= room:
        return int(rng.integers(0, length - room + 1)), 0, room
    return 0, int(rng.integers(0, room - length + 1)), length


def paste_objects(
    image: np.ndarray, masks: np.ndarray, source: np.ndarray, source_masks: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay some objects of another picture over a picture ("simple copy-paste", arXiv 2012.07177, section 3).

    Args:
        image: (H, W, 3) uint8 RGB.
        masks: (N, H, W) uint8 of 0 and 1.
        source: (H, W, 3) uint8 RGB, the view of another picture.
        source_masks: (M, H, W) uint8, its objects.
        rng: Chooses which of them, one at least.

    Returns:
        The picture, masks (N + K, H, W) of what is still seen of its own objects and of the pasted ones, and the
        indices (K,) of those in `source_masks`.
    """
    count = len(source_masks)
    chosen = rng.permutation(count)[: rng.integers(1, count + 1)] if count else np.zeros(0, np.int64)
    covered = np.asarray(source_masks[chosen].any(axis=0))
    pasted = np.where(covered[..., None], source, image)
    return pasted, np.concatenate([masks * ~covered, source_masks[chosen]]), chosen


def jitter_color(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Random contrast, brightness and saturation of a uint8 RGB image, each by at most `strength`.

    All three are linear in the colours, so together they are one matrix.
    """
    contrast, brightness, saturation = rng.uniform(-strength, strength, 3)
    mixed = np.eye(3) * (1 + saturation) - saturation * _LUMA[None]
    level = float(_LUMA @ cv2.mean(image)[:3])
    shift = np.full((3, 1), level * (1 + brightness) - level * (1 + contrast))
    return cv2.transform(image, np.hstack([mixed * (1 + contrast), shift]))


_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in gray, ITU-R BT.601, as OpenCV has them."""

"""Scenes: objects lying on a surface, seen by a camera.

A `Scene` is a random description; `draw_scene` renders it with exact masks, from any camera position. One affine map
per object includes scale, rotation, flip and the foreshortening of a tilted camera, so each object is resampled only
once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge_mrcnn.data.scenes.cutouts import CLASSES, Cutout, cut_objects
from edge_mrcnn.data.scenes.surfaces import Surface, list_surfaces, pick_level, warp_surface

_SIZES = {"coin": (20, 140), "pebble": (18, 70), "cup": (85, 230), "photo": (80, 225)}
"""Range of the longer side of each class, in pixels of a scene of 320 x 320."""
_SHARES = (0.45, 0.3, 0.1, 0.15)
_EMPTY_SHARE = 0.06
_LEAST_VISIBLE = 0.4
"""Minimum visible share of an object's area; an object that others or the frame would hide more is left out."""
_LEAST_AREA = 60


@dataclass(frozen=True)
class Placement:
    """One object in a scene."""

    cutout: Cutout
    matrix: np.ndarray
    """(2, 3) from pixels of the cut-out's first level to the scene."""
    gain: np.ndarray
    """(3,) factor on each colour."""


@dataclass(frozen=True)
class Look:
    """Light and camera, the same for the whole scene."""

    shadow_direction: np.ndarray
    """(2,) x y, in sizes of the object per unit of its height."""
    shadow_depth: float
    """Darkness of shadows, in [0, 1]."""
    light: np.ndarray
    """(3, 3) factor on the image, bilinear over a 3 x 3 grid: a lamp at one side, a dark corner."""
    white: np.ndarray
    """(3,) factor on each colour."""
    blur: float
    """Sigma of the defocus in pixels; 0 for none."""
    noise: float
    """Standard deviation of the sensor noise, in levels of 255."""


@dataclass(frozen=True)
class Scene:
    """A surface, objects from bottom to top, and light and camera."""

    surface: Surface
    surface_matrix: np.ndarray
    """(2, 3) from pixels of the surface's first level to the scene."""
    surface_gain: np.ndarray
    """(3,) factor on each colour of the surface."""
    placements: tuple[Placement, ...]
    look: Look


@dataclass(frozen=True)
class RenderedScene:
    """The rendered view."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    owner: np.ndarray
    """(H, W) int16: index of the visible placement at each pixel, -1 for the surface."""


def draw_scene(
    scene: Scene, size_hw: tuple[int, int], camera: np.ndarray | None = None, noise_seed: int = 0
) -> RenderedScene:
    """Render a scene.

    Args:
        scene: What to draw.
        size_hw: Height and width of the image.
        camera: (2, 3) from the scene to the image; the identity if None.
        noise_seed: Seed of the sensor noise.
    """
    ground = warp_surface(scene.surface, _through(camera, scene.surface_matrix), size_hw)
    picture = RenderedScene(_scale(ground, scene.surface_gain), np.full(size_hw, -1, np.int16))
    for index, placement in enumerate(scene.placements):
        seen = replace(placement, matrix=_through(camera, placement.matrix))
        stamp = _stamp(seen, size_hw)
        if stamp is not None:
            _paste(picture, stamp, index, placement, scene.look)
    return replace(picture, image=_expose(picture.image, scene.look, noise_seed))


def make_scene(
    rng: np.random.Generator, *, held_out: bool, size_hw: tuple[int, int], unit: float = 1.0, count: int | None = None
) -> Scene:
    """Make a random scene.

    Args:
        rng: Source of randomness; the same state gives the same scene.
        held_out: True to use the objects and surfaces kept for validation.
        size_hw: Height and width of the scene.
        unit: Factor on the sizes of objects and surface, which are defined for a scene of 320 pixels.
        count: Number of objects to place; random in 0..12 if None. Objects that would hide others are left out.
    """
    surfaces = list_surfaces(held_out)
    surface = surfaces[rng.integers(len(surfaces))]
    tilt = rng.uniform(0.78, 1)
    if count is None:
        count = 0 if rng.random() < _EMPTY_SHARE else 1 + int(11.99 * rng.beta(1.2, 1.6))
    labels = sorted(rng.choice(len(CLASSES), size=count, p=_SHARES), key=lambda label: -label)
    groups = cut_objects(held_out)
    metal = 1 + rng.uniform(-0.1, 1) * np.array((0.13, -0.03, -0.28))  # from silver to brass
    candidates = [_place(groups[label], rng, tilt, size_hw, unit, metal) for label in labels]
    return Scene(
        surface=surface,
        surface_matrix=_lay_surface(surface, rng, tilt, size_hw, unit),
        surface_gain=rng.uniform(0.65, 1.1) * (1 + 0.06 * rng.standard_normal(3)),
        placements=_leave_out_hidden(candidates, size_hw),
        look=_make_look(rng),
    )


def visible_masks(owner: np.ndarray, count: int) -> list[np.ndarray]:
    """(H, W) bool mask of each placement; empty if it is outside the frame."""
    return [owner == index for index in range(count)]


def _place(
    group: tuple[Cutout, ...],
    rng: np.random.Generator,
    tilt: float,
    size_hw: tuple[int, int],
    unit: float,
    metal: np.ndarray,
) -> Placement:
    cutout = group[rng.integers(len(group))]
    name = CLASSES[cutout.label]
    least, greatest = _SIZES[name]
    size = least * (greatest / least) ** rng.beta(1.2, 1.2)
    scale = unit * size / cutout.size
    if name == "cup":  # its photograph is already a side view, so it is neither flipped nor foreshortened
        turn = rng.uniform(-0.5, 0.5)
        tilt = 1.0
    else:
        turn = rng.uniform(0, 2 * np.pi)
    flip = rng.choice((-1, 1))
    brightness = rng.uniform(0.75, 1.15)
    color = metal if name == "coin" else 1 + 0.04 * rng.standard_normal(3)
    centre = rng.uniform(-0.02, 1.02, 2) * size_hw[::-1]
    matrix = _map_about(cutout.levels[0].shape, scale, turn, centre, flip=flip, tilt=tilt)
    return Placement(cutout, matrix, brightness * color)


def _lay_surface(
    surface: Surface, rng: np.random.Generator, tilt: float, size_hw: tuple[int, int], unit: float
) -> np.ndarray:
    scale = unit * rng.uniform(*surface.zoom)
    h, w = surface.levels[0].shape[:2]
    size_wh = np.array(size_hw[::-1])
    spare = np.maximum(0, np.array((w, h)) * scale - size_wh)  # the part outside the frame
    centre = size_wh / 2 + rng.uniform(-0.5, 0.5, 2) * spare
    turn = rng.uniform(0, 2 * np.pi)
    flip = rng.choice((-1, 1))
    return _map_about((h, w), scale, turn, centre, flip=flip, tilt=tilt)


def _make_look(rng: np.random.Generator) -> Look:
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.3)
    light = rng.uniform(0.85, 1.12) * (1 + 0.22 * rng.standard_normal((3, 3)).clip(-2, 2) * rng.random())
    return Look(
        shadow_direction=reach * np.array((np.cos(angle), np.sin(angle))),
        shadow_depth=rng.uniform(0.25, 0.7),
        light=light.astype(np.float32),
        white=1 + 0.03 * rng.standard_normal(3),
        blur=max(0.0, rng.uniform(-0.8, 1.1)),
        noise=rng.uniform(0.5, 6),
    )


def _map_about(
    shape: tuple[int, ...], scale: float, turn: float, centre: np.ndarray, *, flip: float, tilt: float
) -> np.ndarray:
    """(2, 3) map of the middle of an image to `centre`: flip, scale, rotation, then foreshortening."""
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array(((cos, -sin), (sin, cos)))
    linear = np.diag((1, tilt)) @ rotation @ np.diag((flip * scale, scale))
    middle = (np.array((shape[1], shape[0])) - 1) / 2
    return np.column_stack((linear, centre - linear @ middle))


def _through(camera: np.ndarray | None, matrix: np.ndarray) -> np.ndarray:
    if camera is None:
        return matrix
    linear = camera[:, :2]
    shift = linear @ matrix[:, 2] + camera[:, 2]
    return np.column_stack((linear @ matrix[:, :2], shift))


@dataclass(frozen=True)
class _Stamp:
    """A warped object with space for its shadow."""

    left: int
    top: int
    rgba: np.ndarray
    """(h, w, 4) uint8, premultiplied; may extend outside the frame."""
    size: float
    """Longer side of the object in pixels."""
    full_area: int
    """Number of pixels of the whole object, also outside the frame."""


def _stamp(placement: Placement, size_hw: tuple[int, int]) -> _Stamp | None:
    """Warp one object into the smallest window around it and its shadow; None if that is outside the frame."""
    cutout = placement.cutout
    h, w = cutout.levels[0].shape[:2]
    linear, shift = placement.matrix[:, :2], placement.matrix[:, 2]
    corners = np.array(((0, 0), (w, 0), (w, h), (0, h))) @ linear.T + shift
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = float((high - low).max())
    room = 3 + cutout.height * size * 2  # for the shadow
    low = np.floor(low - room).astype(int)
    high = np.ceil(high + room).astype(int)
    if (high <= 0).any() or (low >= size_hw[::-1]).any():
        return None
    level, matrix = pick_level(cutout.levels, placement.matrix)
    matrix[:, 2] -= low
    left, top = low.tolist()
    width, height = (high - low).tolist()
    rgba = cv2.warpAffine(level, matrix, (width, height), flags=cv2.INTER_LINEAR)
    full_area = int(np.count_nonzero(rgba[..., 3] > 127))
    return _Stamp(left, top, rgba, size, full_area)


def _leave_out_hidden(candidates: list[Placement], size_hw: tuple[int, int]) -> tuple[Placement, ...]:
    """Keep, from bottom to top, each object that is visible and does not hide one below it."""
    owner = np.full(size_hw, -1, np.int16)
    kept: list[Placement] = []
    full: list[int] = []
    visible = np.zeros(0, int)
    for candidate in candidates:
        stamp = _stamp(candidate, size_hw)
        if stamp is None:
            continue
        inside, cut = _windows(stamp, size_hw)
        solid = stamp.rgba[cut][..., 3] > 127
        area = int(np.count_nonzero(solid))
        hidden = np.bincount(owner[inside][solid] + 1, minlength=len(kept) + 1)[1:]
        left = visible - hidden
        least = np.maximum(_LEAST_AREA, _LEAST_VISIBLE * np.array(full, float))
        touched = hidden > 0
        if area < max(_LEAST_AREA, _LEAST_VISIBLE * stamp.full_area):
            continue
        if (left[touched] < least[touched]).any():
            continue
        owner[inside][solid] = len(kept)
        kept.append(candidate)
        full.append(stamp.full_area)
        visible = np.append(left, area)
    return tuple(kept)


def _windows(stamp: _Stamp, size_hw: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The intersection of the stamp and the image: as slices of the image and of the stamp."""
    h, w = stamp.rgba.shape[:2]
    height, width = size_hw
    top, bottom = max(0, stamp.top), min(height, stamp.top + h)
    left, right = max(0, stamp.left), min(width, stamp.left + w)
    inside = (slice(top, bottom), slice(left, right))
    cut = (slice(top - stamp.top, bottom - stamp.top), slice(left - stamp.left, right - stamp.left))
    return inside, cut


def _paste(picture: RenderedScene, stamp: _Stamp, index: int, placement: Placement, look: Look) -> None:
    inside, cut = _windows(stamp, picture.owner.shape)
    rgba = stamp.rgba[cut]
    shade = _shade(stamp, placement.cutout.height, look)[cut]
    alpha = rgba[..., 3:].astype(np.float32) / 255
    behind = picture.image[inside] * (shade * (1 - alpha))
    before = rgba[..., :3] * placement.gain.astype(np.float32)  # premultiplied by alpha
    picture.image[inside] = np.clip(behind + before, 0, 255)
    picture.owner[inside][rgba[..., 3] > 127] = index


def _shade(stamp: _Stamp, height: float, look: Look) -> np.ndarray:
    """(h, w, 1) float32 factor: a soft shadow on one side, and a narrow dark contact line all around."""
    lift = height * stamp.size
    dx, dy = look.shadow_direction * lift
    alpha = stamp.rgba[..., 3]
    moved = cv2.warpAffine(alpha, np.array(((1, 0, dx), (0, 1, dy))), alpha.shape[::-1])
    thrown = cv2.GaussianBlur(moved, (0, 0), 0.6 + 0.35 * lift)
    contact = cv2.GaussianBlur(alpha, (0, 0), 1.0 + 0.08 * lift)
    dark = np.maximum(thrown.astype(np.float32), 0.8 * contact) / 255
    return (1 - look.shadow_depth * dark)[..., None]


def _scale(image: np.ndarray, gain: np.ndarray) -> np.ndarray:
    levels = np.arange(256)[:, None] * gain
    return cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8)[None])


def _expose(image: np.ndarray, look: Look, noise_seed: int) -> np.ndarray:
    h, w = image.shape[:2]
    if look.blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), look.blur)
    light = cv2.resize(look.light, (w, h), interpolation=cv2.INTER_CUBIC)[..., None] * look.white.astype(np.float32)
    cv2.setRNGSeed(noise_seed)
    noise = np.empty((h, w, 3), np.int8)
    cv2.randn(noise, np.zeros(3), np.full(3, look.noise))  # three times as fast as numpy's generator
    return np.clip(image * light + noise, 0, 255).astype(np.uint8)

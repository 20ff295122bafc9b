"""A moving camera over a large scene with moving objects: a source for `edge-mrcnn run` without a camera."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from edge_mrcnn.data.scenes.compose import Look, Placement, Scene, draw_scene, make_scene
from runtimes.errors import DataError, UsageError

VIDEO_STREAM = 3
"""Its own random stream, separate from those of the data set's splits."""
_WORLD_VIEWS = 2.6
"""Side of the scene, in sides of the frame."""
_OBJECTS_TRIED = 60
_MOVING_SHARE = 0.35


@dataclass(frozen=True)
class _Motion:
    """A slow swing around the position of an object."""

    reach: np.ndarray
    """(2,) greatest distance in x and y, in pixels."""
    rate: float
    """Swings per second."""
    turn: float
    """Maximum rotation to either side, in radians."""


def render_video(
    path: str | Path,
    *,
    seconds: float = 20.0,
    fps: int = 25,
    size_hw: tuple[int, int] = (480, 640),
    seed: int = 0,
) -> None:
    """Render a video of held-out objects: slow pan, zoom and rotation while some objects slide.

    Args:
        path: Output file, such as scenes.mp4; H.264 if PyAV is installed, else MPEG-4 Part 2.
        seconds: Length.
        fps: Frames per second.
        size_hw: Height and width of a frame in pixels, both even.
        seed: Any non-negative integer; the same one gives the same frames.

    Raises:
        UsageError: If the length, rate or size is not valid.
        DataError: If the file cannot be written.
    """
    if seconds * fps < 1 or fps < 1 or size_hw[0] % 2 or size_hw[1] % 2 or min(size_hw) < 64:
        raise UsageError(
            f"expected at least one frame and even sides >= 64, got {seconds} s at {fps} fps of {tuple(size_hw)}"
        )
    frames = film(seconds=seconds, fps=fps, size_hw=size_hw, seed=seed)
    try:
        import av  # noqa: F401
    except ModuleNotFoundError:
        _write_with_opencv(Path(path), frames, fps, size_hw)
    else:
        _write_with_av(Path(path), frames, fps, size_hw)


def film(*, seconds: float, fps: int, size_hw: tuple[int, int], seed: int) -> Iterator[np.ndarray]:
    """The frames of `render_video`, (H, W, 3) uint8 RGB, one at a time."""
    rng = np.random.default_rng((seed, VIDEO_STREAM))
    unit = min(size_hw) / 320
    world = (round(size_hw[0] * _WORLD_VIEWS), round(size_hw[1] * _WORLD_VIEWS))
    scene = make_scene(rng, held_out=True, size_hw=world, unit=unit, count=_OBJECTS_TRIED)
    motions = [_draw_motion(rng, unit) for _ in scene.placements]
    phase = rng.uniform(0, 2 * np.pi, 4)
    for index in range(round(seconds * fps)):
        time = index / fps
        camera, turn = _camera_at(time, phase, world, size_hw)
        placements = tuple(_moved(p, m, time) for p, m in zip(scene.placements, motions, strict=True))
        now = replace(scene, placements=placements, look=_look_turned(scene, turn))
        yield draw_scene(now, size_hw, camera, noise_seed=index).image


def _draw_motion(rng: np.random.Generator, unit: float) -> _Motion | None:
    if rng.random() > _MOVING_SHARE:
        return None
    return _Motion(unit * rng.uniform(-90, 90, 2), rng.uniform(0.04, 0.15), rng.uniform(-0.8, 0.8))


def _moved(placement: Placement, motion: _Motion | None, time: float) -> Placement:
    if motion is None:
        return placement
    swing = np.sin(2 * np.pi * motion.rate * time)
    h, w = placement.cutout.levels[0].shape[:2]
    middle = placement.matrix @ (w / 2, h / 2, 1)
    turned = _rotation(motion.turn * swing) @ np.column_stack(
        (placement.matrix[:, :2], placement.matrix[:, 2] - middle)
    )
    turned[:, 2] += middle + motion.reach * swing
    return replace(placement, matrix=turned)


def _camera_at(
    time: float, phase: np.ndarray, world_hw: tuple[int, int], size_hw: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """(2, 3) map from the scene to the frame, and the camera's rotation in radians."""
    swing = np.sin(2 * np.pi * time * np.array((0.031, 0.023, 0.017, 0.041)) + phase)
    zoom, turn = 1.1 + 0.3 * swing[2], 0.35 * swing[3]
    half_view = np.array(size_hw[::-1]) / 2
    centre = np.array(world_hw[::-1]) / 2 * (1 + 0.5 * swing[:2])
    linear = zoom * _rotation(turn)
    return np.column_stack((linear, half_view - linear @ centre)), float(turn)


def _look_turned(scene: Scene, turn: float) -> Look:
    return replace(scene.look, shadow_direction=_rotation(turn) @ scene.look.shadow_direction)


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array(((cos, -sin), (sin, cos)))


def _write_with_av(path: Path, frames: Iterable[np.ndarray], fps: int, size_hw: tuple[int, int]) -> None:
    import av

    try:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "veryfast"})
            stream.height, stream.width = size_hw
            stream.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode())
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot write the video ({error}); name an .mp4 file in a folder that exists"
        ) from error


def _write_with_opencv(path: Path, frames: Iterable[np.ndarray], fps: int, size_hw: tuple[int, int]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, size_hw[::-1])
    if not writer.isOpened():
        raise DataError(f"{path}: cannot write the video; name an .mp4 file in a folder that exists")
    try:
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()

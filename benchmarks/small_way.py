"""Compare AP with the camera loop's input, made of a frame's planes, and with the letterbox of RGB.

    python benchmarks/small_way.py --data DIR models/people.onnx models/people-int8.onnx
    python benchmarks/small_way.py --data DIR --sides 1280,1600,1920 models/people.onnx models/people-int8.onnx

Every picture of the val split of DIR becomes the YUV 4:2:0 frame of a camera, of its own size or with a longer side of
so many pixels. The model's input is made of it by several methods: the letterbox of exact RGB; FFmpeg's RGB and the
letterbox, as in `infer`; the planes scaled directly to the input, as in the camera loop; and, for JPEG cameras, a JPEG
file decoded at a fraction of its size.

The command prints two tables. The first compares each input with the letterbox of exact RGB: the difference in dB, and
its systematic part: the mean difference of brightness, of 255, and the shift to the right and down in pixels of the
input that explains most of the difference (least squares, Lucas and Kanade 1981). The second shows the AP with each
input and the gain over exact RGB, with the 95 % interval of a paired bootstrap over images. Several sides are several
trials with different rounding; the table shows their mean. Exits 3 if planes lose more than 0.001 and the interval
excludes 0.
"""

from __future__ import annotations

import statistics
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import av
import click
import cv2
import numpy as np

from edge_mrcnn.data import load
from edge_mrcnn.evaluation.evaluate import Evaluation, evaluate
from edge_mrcnn.report.models import open_model
from runtimes import Detections, Runtime
from runtimes.preprocess import fit_size, letterbox_image
from runtimes.sources.pixels import Array, AvPixels, make_scaler
from runtimes.sources.reader.mjpeg import Decoder, JpegShot

LIMIT = 1e-3
"""Tolerance of the loss of AP, in [0, 1]."""
SHARES = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in the luma (ITU-R BT.601)."""
WAYS = ("exact", "RGB", "planes", "JPEG")


class Noise(NamedTuple):
    """How far an input is from the letterbox of exact RGB."""

    db: float
    shade: float
    """Mean difference, of 255."""
    right: float
    """Shift in pixels."""
    down: float


class Prepared(NamedTuple):
    """One picture as a camera's frame, and what a model reads of it by each way."""

    size_hw: tuple[int, int]
    """Of the frame."""
    ratio_xy: Array
    """Pixels of the picture as it was given per pixel of the frame."""
    inputs: dict[str, Array]


class Studio:
    """Makes frames of pictures, once for all models."""

    def __init__(self, input_hw: tuple[int, int], side: int | None) -> None:
        self.noise: dict[str, list[Noise]] = {way: [] for way in WAYS}
        self._input_hw = input_hw
        self._side = side
        self._scaler = make_scaler()
        self._decoder = Decoder()
        self._prepared: dict[int, Prepared] = {}

    def prepare(self, image: Array) -> Prepared:
        """The frame of a picture, (h, w, 3) uint8 RGB."""
        key = zlib.crc32(np.ascontiguousarray(image))
        if key not in self._prepared:
            self._prepared[key] = self._prepare(image)
        return self._prepared[key]

    def _prepare(self, image: Array) -> Prepared:
        height, width = image.shape[:2]
        scale = self._side / max(height, width) if self._side else 1.0
        frame_wh = round(width * scale) // 2 * 2, round(height * scale) // 2 * 2
        if scale > 1:
            taken = cv2.resize(image, frame_wh, interpolation=cv2.INTER_CUBIC)
            ratio = np.float32([width / frame_wh[0], height / frame_wh[1]])
        else:
            taken, ratio = image[: frame_wh[1], : frame_wh[0]], np.ones(2, np.float32)
        taken = np.ascontiguousarray(taken)
        inputs = self._list_inputs(taken)
        for way, made in inputs.items():
            exact = self._letterbox(taken) if way == "JPEG" else inputs["exact"]
            self.noise[way].append(measure_noise(made, exact))
        return Prepared(frame_wh[::-1], ratio, inputs)

    def _list_inputs(self, image: Array) -> dict[str, Array]:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", interpolation="AREA")
        pixels = AvPixels(frame)
        whole = self._letterbox(to_rgb(frame))
        small = pixels.for_model(self._scaler, self._input_hw)  # None where the loop converts the whole picture, too
        return {
            "exact": self._letterbox(convert_exactly(frame)),
            "RGB": whole,
            "planes": whole if small is None else small.copy(),
            "JPEG": self._decode(image),
        }

    def _letterbox(self, image: Array) -> Array:
        """Without its border."""
        canvas = letterbox_image(image, self._input_hw, (0, 0, 0))[0]
        height, width = fit_size((image.shape[0], image.shape[1]), self._input_hw)
        return canvas[:height, :width]

    def _decode(self, image: Array) -> Array:
        flags = [cv2.IMWRITE_JPEG_QUALITY, 95]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
        picture = JpegShot(data.tobytes(), self._decoder).small(self._input_hw, is_alone=True)
        assert picture is not None
        (height, width), plane = picture.size_hw, picture.planes[0]
        rows = np.frombuffer(plane.data, np.uint8).reshape(-1, plane.stride)
        return rows[:height, : 3 * width].reshape(height, width, 3).copy()


class Camera:
    """A model that is given pictures as a camera loop gets them, by one way."""

    def __init__(self, runtime: Runtime, studio: Studio, way: str) -> None:
        self.card = runtime.card
        self._runtime = runtime
        self._studio = studio
        self._way = way

    def infer(self, image: Array) -> Detections:
        """Detections in pixels of the image as it was given."""
        prepared = self._studio.prepare(image)
        found = self._runtime.infer_resized(prepared.inputs[self._way], prepared.size_hw)
        ratio = prepared.ratio_xy
        boxes = found.boxes_xyxy * np.tile(ratio, 2)
        offset_x, offset_y = (np.array(found.mask_offset_xy) * ratio).tolist()
        size_hw = image.shape[0], image.shape[1]
        changes = {"boxes_xyxy": boxes, "image_size_hw": size_hw, "mask_offset_xy": (offset_x, offset_y)}
        return Detections(**{**vars(found), **changes})

    def close(self) -> None:
        """Does nothing; the caller that opened the model closes it."""


def to_rgb(frame: Any) -> Array:
    """(H, W, 3) uint8 RGB, as FFmpeg makes it."""
    return AvPixels(frame).rgb()


def convert_exactly(frame: Any) -> Array:
    """RGB of a "yuv420p" frame of limited range by BT.601's definition, each colour for its four pixels: uint8."""
    height, width = frame.height, frame.width
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : plane.width]
        planes.append(cv2.resize(rows, (width, height), interpolation=cv2.INTER_NEAREST).astype(float))
    luma, blue, red = (planes[0] - 16) * 255 / 219, planes[1] - 128, planes[2] - 128
    r, b = (luma + 2 * (1 - SHARES[i]) * part * 255 / 224 for i, part in ((0, red), (2, blue)))
    g = (luma - SHARES[0] * r - SHARES[2] * b) / SHARES[1]
    return np.clip(np.rint(np.stack([r, g, b], axis=-1)), 0, 255).astype(np.uint8)


def measure_noise(made: Array, exact: Array) -> Noise:
    """How far an input, (h, w, 3) uint8 RGB, is from the exact one."""
    difference = made.astype(float) - exact
    db = float(10 * np.log10(255**2 / max(1e-9, np.mean(difference**2))))
    luma = exact @ SHARES
    down, right = np.gradient(luma)
    # A small shift to the right changes each pixel by minus the gradient in x; likewise downwards.
    causes = np.stack([-right.ravel(), -down.ravel(), np.ones(luma.size)], axis=1)
    (shift_x, shift_y, shade), *_ = np.linalg.lstsq(causes, (difference @ SHARES).ravel(), rcond=None)
    return Noise(db, float(shade), float(shift_x), float(shift_y))


def tell_noise(side: int | None, studio: Studio) -> None:
    """Rows of the first table: medians over the pictures."""
    for way in WAYS:
        columns = zip(*studio.noise[way], strict=True)
        db, shade, right, down = (statistics.median(values) for values in columns)
        noise = "" if way == "exact" else f"{db:.1f}"
        click.echo(f"| {side or 'own'} | {way} | {noise} | {shade:+.2f} | {right:+.4f} | {down:+.4f} |")


class Gain(NamedTuple):
    """What a way gains on exact RGB, in AP, on average over the sides."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:+.2f} ({100 * self.low:+.2f} to {100 * self.high:+.2f})"

    @property
    def is_loss(self) -> bool:
        """Whether it loses more than the limit, and not by chance."""
        return self.value < -LIMIT and self.high < 0


def compare(ways: Sequence[Evaluation], exact: Sequence[Evaluation], metric: str) -> Gain:
    """The gain of a way, an evaluation for each side; "box_result" or "mask_result"."""
    pairs = [(getattr(a, metric), getattr(b, metric)) for a, b in zip(ways, exact, strict=True)]
    gains = [a.summary.ap - b.summary.ap for a, b in pairs]
    # Both resample the same sets of images, so the differences are paired.
    resampled = np.mean([a.resampled - b.resampled for a, b in pairs], axis=0)
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    return Gain(float(np.mean(gains)), float(low), float(high))


def tell_model(name: str, found: dict[str, list[Evaluation]]) -> bool:
    """Rows of the second table; whether the planes lose nothing."""
    is_held = True
    for way in WAYS:
        box, mask = (compare(found[way], found["exact"], metric) for metric in ("box_result", "mask_result"))
        means = [100 * float(np.mean([getattr(one, kind).ap for one in found[way]])) for kind in ("box", "mask")]
        gains = "| | |" if way == "exact" else f"| {box} | {mask} |"
        click.echo(f"| {name} | {way} | {means[0]:.2f} | {means[1]:.2f} {gains}")
        is_held &= way != "planes" or not (box.is_loss or mask.is_loss)
    return is_held


@click.command()
@click.option("--data", required=True, help="COCO folder or annotation file.")
@click.option("--sides", default="", help="Longer sides of the camera's picture, with commas [default: as it is].")
@click.option("--split", default="val", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="The first so many images only.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def main(
    context: click.Context, data: str, sides: str, split: str, limit: int | None, models: tuple[Path, ...]
) -> None:
    """Print two tables."""
    pictures = load(data, split)
    found: dict[Path, dict[str, list[Evaluation]]] = {path: {way: [] for way in WAYS} for path in models}
    click.echo("| side | way | dB | shade | right | down |\n|---|---|---:|---:|---:|---:|")
    for side in [int(side) for side in sides.split(",")] if sides else [None]:
        studio = None
        for path in models:
            with open_model(path, device="cpu", threads=1).runtime as runtime:
                studio = studio or Studio(runtime.card.input_size_hw, side)
                for way in WAYS:
                    found[path][way].append(evaluate(Camera(runtime, studio, way), pictures, limit=limit))
        assert studio is not None
        tell_noise(side, studio)
    click.echo("\n| model | way | box AP | mask AP | box gain | mask gain |\n|---|---|---:|---:|---:|---:|")
    is_held = [tell_model(path.name, found[path]) for path in models]
    context.exit(0 if all(is_held) else 3)


if __name__ == "__main__":
    main()

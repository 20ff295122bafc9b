"""Whether a model sees as much in what the camera loop makes of a frame's planes as in the letterbox of RGB.

    python benchmarks/small_way.py --data DIR models/people.onnx models/people-int8.onnx
    python benchmarks/small_way.py --data DIR --side 1280 models/people-int8.onnx

Every picture of the val split of DIR becomes the YUV 4:2:0 frame of a camera, of its own size or with a longer side of
so many pixels. From there go two ways: RGB of the whole frame and the letterbox, as `infer` does; and the planes
scaled straight to the input, as the camera loop does (for JPEG cameras: encoded, and decoded at a fraction). Prints AP
of both, and how far the inputs are from the letterbox of exact RGB, of which the AP is printed too: how far RGB, which
FFmpeg rounds down, is from it says how much chance is in a difference. Exits 3 if planes differ by more than 0.001 from
RGB.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import av
import click
import cv2
import numpy as np

from edge_mrcnn.data import load
from edge_mrcnn.evaluation.evaluate import evaluate
from edge_mrcnn.report.models import open_model
from runtimes import Detections, Runtime
from runtimes.preprocess import fit_size, letterbox_image
from runtimes.sources.pixels import Array, AvPixels, make_scaler
from runtimes.sources.reader.mjpeg import Decoder, JpegShot

LIMIT = 1e-3
"""Of the difference in AP, in [0, 1]."""
SHARES = np.array([0.299, 0.587, 0.114])
"""Of red, green and blue in the luma (ITU-R BT.601)."""


class Camera:
    """A model that is given pictures as a camera loop gets them."""

    def __init__(self, runtime: Runtime, way: str, side: int | None) -> None:
        self.card = runtime.card
        self.noise_db: list[float] = []
        self._runtime = runtime
        self._way = way
        self._side = side
        self._scaler = make_scaler()
        self._decoder = Decoder()

    def infer(self, image: Array) -> Detections:
        """Detections in pixels of the image as it was given."""
        height, width = image.shape[:2]
        scale = self._side / max(height, width) if self._side else 1.0
        size_wh = round(width * scale) // 2 * 2, round(height * scale) // 2 * 2
        taken = (
            cv2.resize(image, size_wh, interpolation=cv2.INTER_CUBIC)
            if scale > 1
            else image[: size_wh[1], : size_wh[0]]
        )
        found = self._see(np.ascontiguousarray(taken))
        ratio = np.float32([image.shape[1] / size_wh[0], image.shape[0] / size_wh[1]] if scale > 1 else [1, 1])
        boxes = found.boxes_xyxy * np.tile(ratio, 2)
        offset_x, offset_y = (np.array(found.mask_offset_xy) * ratio).tolist()
        return Detections(**{**vars(found), "boxes_xyxy": boxes, "image_size_hw": (height, width),
                             "mask_offset_xy": (offset_x, offset_y)})  # fmt: skip

    def _see(self, image: Array) -> Detections:
        if self._way == "JPEG":
            small, exact = self._decode(image), image
        else:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", interpolation="AREA")
            small, exact = self._scale(frame), convert_exactly(frame)
        self._note(small, exact)
        return self._runtime.infer_resized(small, (image.shape[0], image.shape[1]))

    def _scale(self, frame: Any) -> Array:
        """What the model reads of a frame, without border."""
        pixels = AvPixels(frame)
        small = pixels.for_model(self._scaler, self.card.input_size_hw) if self._way == "planes" else None
        if small is not None:
            return small
        rgb = convert_exactly(frame) if self._way == "exact" else pixels.rgb()
        canvas = letterbox_image(rgb, self.card.input_size_hw, self.card.pad_rgb)[0]
        height, width = fit_size(pixels.size_hw, self.card.input_size_hw)
        return canvas[:height, :width]

    def _decode(self, image: Array) -> Array:
        flags = [cv2.IMWRITE_JPEG_QUALITY, 95]
        _, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)
        picture = JpegShot(data.tobytes(), self._decoder).small(self.card.input_size_hw, is_alone=True)
        assert picture is not None
        (height, width), plane = picture.size_hw, picture.planes[0]
        rows = np.frombuffer(plane.data, np.uint8).reshape(-1, plane.stride)
        return rows[:height, : 3 * width].reshape(height, width, 3)

    def _note(self, small: Array, exact: Array) -> None:
        reference = letterbox_image(exact, self.card.input_size_hw, self.card.pad_rgb)[0]
        difference = small.astype(float) - reference[: small.shape[0], : small.shape[1]]
        self.noise_db.append(float(10 * np.log10(255**2 / max(1e-9, np.mean(difference**2)))))

    def close(self) -> None:
        """Nothing; the model is closed by who opened it."""


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


def differ(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The larger difference of box and mask AP."""
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


@click.command()
@click.option("--data", required=True, help="COCO folder or annotation file.")
@click.option("--side", type=click.IntRange(64), help="Longer side of the camera's picture [default: as it is].")
@click.option("--limit", type=click.IntRange(1), help="The first so many images only.")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.pass_context
def main(context: click.Context, data: str, side: int | None, limit: int | None, models: tuple[Path, ...]) -> None:
    """Print a table."""
    pictures = load(data, "val")
    click.echo("| model | way | box AP | mask AP | input dB |\n|---|---|---:|---:|---:|")
    is_held = True
    for path in models:
        scores = {}
        with open_model(path, device="cpu", threads=1).runtime as runtime:
            for way in ("exact", "RGB", "planes", "JPEG"):
                camera = Camera(runtime, way, side)
                found = evaluate(camera, pictures, limit=limit)
                scores[way] = found.box.ap, found.mask.ap
                noise = statistics.median(camera.noise_db)
                click.echo(f"| {path.name} | {way} | {found.box.ap:.4f} | {found.mask.ap:.4f} | {noise:.1f} |")
        is_held &= differ(scores["RGB"], scores["planes"]) <= LIMIT
    context.exit(0 if is_held else 3)


if __name__ == "__main__":
    main()

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from runtimes import FakeRuntime
from runtimes.errors import ImageError, MissingFileError, UsageError
from runtimes.image_header import read_size
from runtimes.preprocess import letterbox, letterbox_image, read_image

GREY = (114, 115, 116)


@pytest.mark.parametrize(
    ("size", "content"), [((480, 640), (48, 64)), ((640, 480), (64, 48)), ((64, 96), (64, 96)), ((10, 10), (64, 64))]
)
def test_image_is_anchored_top_left_and_border_filled(size, content):
    image = np.full((*size, 3), 200, np.uint8)
    canvas, _ = letterbox_image(image, (64, 96) if size != (480, 640) else (64, 64), GREY)
    height, width = content
    assert (canvas[:height, :width] == 200).all()
    for border in (canvas[height:], canvas[:, width:]):
        assert (border == GREY).all()


@pytest.mark.parametrize("size", [(333, 517), (7, 1999), (1080, 1920), (1, 1)])
def test_boxes_come_back_to_source_pixels(size):
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    _, box = letterbox_image(image, (320, 320), GREY)
    whole = np.array([[0, 0, width * box.scale_x, height * box.scale_y]], np.float32)
    np.testing.assert_allclose(box.map_boxes(whole)[0], [0, 0, width, height], rtol=1e-5)


def test_boxes_are_clipped_to_the_image():
    _, box = letterbox_image(np.zeros((100, 200, 3), np.uint8), (64, 64), GREY)
    mapped = box.map_boxes(np.array([[-5, -5, 64, 64]], np.float32))
    np.testing.assert_array_equal(mapped, [[0, 0, 200, 100]])
    assert mapped.dtype == np.float32


def test_letterbox_adds_a_batch_axis(scene):
    x, _ = letterbox(np.zeros((30, 30, 3), np.uint8), scene.card)
    assert (x.shape, x.dtype) == ((1, 64, 96, 3), np.uint8)


def test_fine_stripes_average_when_shrunk():
    stripes = np.zeros((640, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    canvas, _ = letterbox_image(stripes, (160, 160), GREY)
    assert np.ptp(canvas) <= 1 and abs(int(canvas[0, 0, 0]) - 127) <= 1


def detailed(size, rng):
    """(h, w, 3) uint8 with structures of all sizes."""
    layers = [cv2.resize(rng.random((*(max(1, n // k) for n in size), 3)), size[::-1]) for k in (1, 4, 16, 64)]
    return (255 * np.mean(layers, axis=0)).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "side"),
    [
        *[((1080, 1920), side) for side in (280, 288, 320, 336, 352, 416, 560, 640, 688)],
        ((1079, 1919), 320),
        ((600, 800), 320),
        ((427, 641), 320),
    ],
)
def test_shrinking_is_close_to_averaging(size, side):
    image = detailed(size, np.random.default_rng(0))
    canvas, _ = letterbox_image(image, (side, side), GREY)
    height = round(size[0] * side / size[1])
    whole = cv2.resize(image, (side, height), interpolation=cv2.INTER_AREA)
    assert cv2.PSNR(canvas[:height], whole) > 40


@pytest.mark.parametrize("size", [(720, 1280), (540, 960), (1080, 1920), (2160, 3840)])
def test_shrinking_by_twos_and_threes_is_averaging(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    canvas, _ = letterbox_image(image, (180, 320), GREY)
    assert np.abs(canvas.astype(int) - cv2.resize(image, (320, 180), interpolation=cv2.INTER_AREA)).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_header_and_pixels_agree(tmp_path, suffix):
    image = np.zeros((37, 53, 3), np.uint8)
    image[..., 0] = 200
    path = tmp_path / f"red{suffix}"
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    assert read_size(path.read_bytes()) == (37, 53)
    assert abs(read_image(path).astype(int) - image).max() < 6


def test_lossy_webp_header(tmp_path):
    path = tmp_path / "lossy.webp"
    cv2.imwrite(str(path), np.zeros((37, 53, 3), np.uint8), [cv2.IMWRITE_WEBP_QUALITY, 50])
    assert read_size(path.read_bytes()) == (37, 53)


def test_image_is_turned_as_exif_says(tmp_path):
    pil = pytest.importorskip("PIL.Image")
    exif = pil.Exif()
    exif[274] = 6
    pil.new("RGB", (60, 40)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (60, 40, 3)


def test_picture_bomb_is_refused_from_its_header(tmp_path):
    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "bomb.png").write_bytes(png)
    with pytest.raises(ImageError, match="30000 x 30000 pixels exceeds the limit"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize("share", [0, 0.0005, 0.005])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
def test_damaged_image_is_an_error_of_one_line(tmp_path, suffix, share):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=f"cut{suffix}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_no_image_and_no_file(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ImageError, match="expected a PNG"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(MissingFileError, match="no such image"):
        read_image(tmp_path / "none.jpg")


def test_image_as_opencv_has_it_gives_the_same_input():
    card = FakeRuntime().card.updated(pad_rgb=GREY)
    image = np.random.default_rng(0).integers(0, 256, (333, 517, 3), np.uint8)
    expected, _ = letterbox(image, card)
    turned, _ = letterbox(image[..., ::-1].copy(), card, "bgr")
    np.testing.assert_array_equal(turned, expected)


def test_unknown_order_of_channels_is_refused():
    with pytest.raises(UsageError, match="'gbr': expected rgb or bgr"):
        FakeRuntime().infer(np.zeros((9, 9, 3), np.uint8), order="gbr")

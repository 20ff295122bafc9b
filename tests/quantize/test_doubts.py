"""Warnings about unsuitable calibration pictures, without a measurement."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from quantize import open_quantizer, quantize
from quantize.calibration import CalibrationSet
from quantize.doubts import check_pictures, kind_of
from runtimes.errors import DataError, UsageError
from runtimes.model_file import ModelFile

RNG = np.random.default_rng(0)


def photograph() -> np.ndarray:
    return RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def labels() -> np.ndarray:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[10:30, 10:40] = (0, 0, 128)
    picture[20:44, 30:60] = (0, 128, 0)
    return picture


def write(folder, pictures) -> CalibrationSet:
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{index:03}.png"), picture)
    return CalibrationSet.load(folder)


@pytest.mark.parametrize(
    ("picture", "kind"),
    [
        (photograph(), ""),
        (np.full((48, 64, 3), 90, np.uint8), "plain"),
        (np.zeros((48, 64, 3), np.uint8), "dark"),
        ((photograph() // 16).astype(np.uint8), "dark"),  # 12 bits in a file of 16, read as 8
        (labels(), "mask"),
        (photograph()[:16, :16], "small"),
    ],
)
def test_pictures_that_measure_nothing_are_told_from_photographs(picture, kind):
    assert kind_of(picture) == kind


def test_twelve_bits_in_a_file_of_sixteen_are_noticed(tmp_path):
    pictures = [RNG.integers(0, 4096, (48, 64, 3), dtype=np.uint16) for _ in range(4)]
    with pytest.raises(DataError, match="4 are nearly black .12 bits stored in 16"):
        check_pictures(write(tmp_path, pictures), limit=10, seed=0)


def test_set_of_plain_pictures_is_refused(tmp_path):
    plain = [np.full((48, 64, 3), level, np.uint8) for level in (60, 120, 180)]
    with pytest.raises(DataError, match="of 3 calibration images 3 are one plain colour, so no ranges can be measured"):
        check_pictures(write(tmp_path, plain), limit=10, seed=0)


def test_masks_among_photographs_are_counted(tmp_path, caplog):
    pictures = [photograph() for _ in range(40)] + [labels() for _ in range(5)]
    check_pictures(write(tmp_path, pictures), limit=100, seed=0)
    assert "of 45 calibration images 5 are masks rather than photographs" in caplog.text
    assert "few" not in caplog.text


def test_copies_are_counted_once(tmp_path, caplog):
    picture = photograph()
    copies = [np.clip(picture.astype(int) + n % 2, 0, 255).astype(np.uint8) for n in range(60)]
    check_pictures(write(tmp_path, [*copies, photograph()]), limit=100, seed=0)
    assert "of 61 calibration images 59 are" in caplog.text
    assert "2 images are too few" in caplog.text


def test_one_picture_is_too_few(tmp_path, caplog):
    check_pictures(write(tmp_path, [photograph()]), limit=10, seed=0)
    assert "1 image is too few for calibration; use 100 to 300" in caplog.text


def test_enough_photographs_give_no_message(tmp_path, caplog):
    check_pictures(write(tmp_path, [photograph() for _ in range(40)]), limit=100, seed=0)
    assert not caplog.text


def test_int8_file_is_not_quantized_again(float_files, pictures, tmp_path):
    file = tmp_path / "small.onnx"
    file.write_bytes(float_files[".onnx"].read_bytes())
    model = ModelFile(file)
    model.write_card(model.card.updated(precision="int8"))
    with pytest.raises(UsageError, match="is already INT8; quantize the FP32 file"):
        quantize(file, tmp_path / "again.onnx", pictures)
    assert not (tmp_path / "again.onnx").exists()


def test_quantizer_looks_at_its_pictures_first(float_files, tmp_path):
    black = write(tmp_path, [np.zeros((48, 64, 3), np.uint8)])
    with pytest.raises(DataError, match="nearly black"):
        open_quantizer(float_files[".onnx"], black)

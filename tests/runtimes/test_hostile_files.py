"""Damaged and malicious files end in one of our errors, soon and in little memory; never in a signal."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import runtimes
from runtimes import ImageError, ModelFileError, SourceError
from runtimes.formats import suffixes
from runtimes.preprocess import letterbox_image
from runtimes.seal import write_seal
from runtimes.sources import open_source

ROOT = Path(__file__).parents[2]
MUTANTS = 200
SECONDS = 10


@pytest.fixture
def open_mutants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str, Path], dict[str, int]]:
    """A function from a kind of file and a file to: outcome -> number of its mutants."""

    def count_outcomes(kind: str, file: Path) -> dict[str, int]:
        found = count_mutants(kind, file, tmp_path)
        with capsys.disabled():
            print(f"\n{MUTANTS} mutants of {file.name}: {found['outcomes']}, the slowest took {found['longest_s']} s")
        assert found["longest_s"] < SECONDS
        return found["outcomes"]

    return count_outcomes


def count_mutants(kind: str, file: Path, folder: Path) -> dict[str, Any]:
    """The output of `mutants.py`."""
    command = [sys.executable, str(ROOT / "tests/runtimes/mutants.py"), kind, str(file), str(MUTANTS), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENCV_LOG_LEVEL": "OFF", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS * MUTANTS)
    assert result.returncode == 0, f"{file.name} ended with {result.returncode}: {result.stderr[-1000:]}"
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


class TestModels:
    @pytest.mark.parametrize("name", ["toy.onnx", "toy.xml", "toy.bin", "toy.tflite"])
    def test_every_changed_byte_is_refused(self, model_files, open_mutants, tmp_path, name):
        file = model_files[".xml" if name == "toy.bin" else Path(name).suffix].with_name(name)
        if file.suffix in (".xml", ".bin"):
            other = {".xml": ".bin", ".bin": ".xml"}[file.suffix]
            shutil.copy(file.with_suffix(other), tmp_path)
        outcomes = open_mutants("model", file)
        assert set(outcomes) <= {"ModelFileError", "unchanged"}
        assert outcomes["ModelFileError"] > 0.95 * MUTANTS

    @pytest.mark.parametrize("suffix", suffixes())
    @pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
    def test_one_flipped_bit_is_refused(self, model_files, tmp_path, suffix, place):
        path = copy_model(model_files[suffix], tmp_path)
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 1
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match="damaged"):
            runtimes.load(path)

    @pytest.mark.parametrize("suffix", suffixes())
    def test_card_of_another_model_is_refused(self, model_files, tmp_path, suffix):
        path = copy_model(model_files[suffix], tmp_path)
        path.write_bytes(
            path.read_bytes().replace(b'"name": "toy"', b'"name": "toX"').replace(b"&quot;toy", b"&quot;toX")
        )
        with pytest.raises(ModelFileError, match="damaged"):
            runtimes.read_card(path)

    def test_weights_of_another_model_are_refused(self, model_files, tmp_path):
        path = copy_model(model_files[".xml"], tmp_path)
        weights = np.fromfile(path.with_suffix(".bin"), np.uint8)
        path.with_suffix(".bin").write_bytes(weights[::-1].tobytes())
        with pytest.raises(ModelFileError, match="damaged"):
            runtimes.load(path)

    @pytest.mark.parametrize("suffix", suffixes())
    def test_sealing_again_changes_nothing(self, model_files, tmp_path, suffix):
        path = copy_model(model_files[suffix], tmp_path)
        before = path.read_bytes()
        write_seal(path)
        assert path.read_bytes() == before


class TestImages:
    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff"])
    def test_damaged_image_decodes_or_is_refused(self, open_mutants, tmp_path_factory, suffix):
        smooth = cv2.resize(np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8), (120, 90))
        file = tmp_path_factory.mktemp("whole") / f"picture{suffix}"
        cv2.imwrite(str(file), smooth)
        assert set(open_mutants("image", file)) <= {"ImageError", "accepted", "unchanged"}

    def test_bomb_is_refused_before_it_is_decoded(self, tmp_path):
        (tmp_path / "bomb.png").write_bytes(plain_png(30000, 30000))
        assert (tmp_path / "bomb.png").stat().st_size < 1_000_000
        with pytest.raises(ImageError, match="30000 x 30000 pixels exceeds the limit"):
            runtimes.read_image(tmp_path / "bomb.png")

    @pytest.mark.parametrize("size", [(0, 0), (0, 10), (10, 0), (2**31 - 1, 2**31 - 1), (2**32 - 1, 1)])
    def test_impossible_size_is_refused(self, tmp_path, size):
        (tmp_path / "odd.png").write_bytes(png_chunks(*size, b""))
        with pytest.raises(ImageError):
            runtimes.read_image(tmp_path / "odd.png")

    @pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
    def test_thin_image_fits_the_input(self, tmp_path, size):
        (tmp_path / "thin.png").write_bytes(plain_png(*size))
        image = runtimes.read_image(tmp_path / "thin.png")
        assert image.shape == (*size, 3)
        assert letterbox_image(image, (64, 96), (0, 0, 0))[0].shape == (64, 96, 3)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
    def test_orientation_is_undone(self, tmp_path, orientation, suffix):
        pil, ops = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageOps")
        corners = np.zeros((40, 60, 3), np.uint8)
        corners[:20, :30, 0], corners[:20, 30:, 1], corners[20:, :30, 2] = 250, 250, 250
        exif = pil.Exif()
        exif[274] = orientation
        path = tmp_path / f"turned{suffix}"
        pil.fromarray(corners).save(path, exif=exif, quality=95)
        with pil.open(path) as image:
            expected = np.asarray(ops.exif_transpose(image).convert("RGB")).astype(int)
        found = runtimes.read_image(path)
        assert found.shape == expected.shape
        assert np.abs(found - expected).mean() < 6

    @pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "I;16", "CMYK"])
    def test_kinds_of_pixels_become_rgb(self, tmp_path, mode):
        pil = pytest.importorskip("PIL.Image")
        gray = np.full((16, 24), 40000, np.uint16)
        image = pil.fromarray(gray) if mode == "I;16" else pil.new("RGB", (24, 16), (200, 200, 200)).convert(mode)
        path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
        image.save(path)
        expected = {"I;16": 40000 >> 8, "1": 255}.get(mode, 200)
        found = runtimes.read_image(path)
        assert (found.shape, found.dtype) == ((16, 24, 3), np.uint8)
        assert abs(int(np.median(found)) - expected) <= 8

    @pytest.mark.parametrize("suffix", [".webp", ".png", ".tiff"])
    def test_first_picture_of_an_animation_is_read(self, tmp_path, suffix):
        pil = pytest.importorskip("PIL.Image")
        pictures = [pil.new("RGB", (24, 16), (value, 0, 0)) for value in (200, 100, 0)]
        pictures[0].save(tmp_path / f"moving{suffix}", save_all=True, append_images=pictures[1:])
        assert abs(int(runtimes.read_image(tmp_path / f"moving{suffix}")[8, 12, 0]) - 200) < 8

    def test_unsupported_image_types_are_named(self, tmp_path):
        pil = pytest.importorskip("PIL.Image")
        pil.new("RGB", (24, 16)).save(tmp_path / "a.gif")
        with pytest.raises(ImageError, match="expected a PNG, JPEG, WebP, BMP or TIFF image"):
            runtimes.read_image(tmp_path / "a.gif")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty plain frames, ever brighter."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (64, 48))
    for value in range(30):
        writer.write(np.full((48, 64, 3), 8 * value, np.uint8))
    writer.release()
    return path


class TestVideos:
    def test_damaged_video_plays_or_is_refused(self, video, open_mutants):
        assert set(open_mutants("video", video)) <= {"SourceError", "accepted", "unchanged"}

    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9])
    def test_cut_video_is_refused_in_one_line(self, video, tmp_path, share):
        data = video.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: int(share * len(data))])
        with pytest.raises(SourceError, match=r"cut\.mp4") as caught:
            list(open_source(tmp_path / "cut.mp4"))
        assert "\n" not in str(caught.value)


def copy_model(file: Path, folder: Path) -> Path:
    """A copy of a model file, with the weights beside it."""
    if file.suffix == ".xml":
        shutil.copy(file.with_suffix(".bin"), folder)
    return Path(shutil.copy(file, folder))


def plain_png(height: int, width: int) -> bytes:
    """A whole black gray-scale PNG, made without its pixels in memory."""
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    return png_chunks(height, width, b"".join(packer.compress(row) for _ in range(height)) + packer.flush())


def png_chunks(height: int, width: int, pixels: bytes) -> bytes:
    """A gray-scale PNG of these compressed pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = b""
    for kind, content in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b"")):
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return b"\x89PNG\r\n\x1a\n" + chunks

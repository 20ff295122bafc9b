"""Included models, by name; toy files in the layout of the package."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

import runtimes
from runtimes import MissingExtraError, MissingFileError, ModelFile, SourceError, UsageError, shipped
from runtimes.sources import open_source
from runtimes.sources.photograph import hang, look_at


@pytest.fixture
def nothing_shipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without an installed package and a checkout that contains one."""
    monkeypatch.setattr(shipped, "PACKAGES", {"people": "no_package_of_this_name"})
    monkeypatch.setattr(shipped, "CHECKOUT", tmp_path)


class TestName:
    def test_loads_the_model(self, shipped_toy: Path) -> None:
        with runtimes.load("people") as model:
            assert model.card.name == "toy"

    def test_is_the_file_of_the_fastest_runtime_that_is_installed(self, shipped_toy, monkeypatch) -> None:
        there = {"onnx", "openvino", "tflite"}
        monkeypatch.setattr(shipped, "is_installed", there.__contains__)
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        assert ModelFile("people").given == shipped_toy / "people.tflite"
        there.remove("tflite")
        assert ModelFile("people").given == shipped_toy / "people.xml"
        there.remove("openvino")
        assert ModelFile("people").given == shipped_toy / "people.onnx"

    def test_prefers_onnx_runtime_to_openvino_on_arm(self, shipped_toy, monkeypatch) -> None:
        monkeypatch.setattr(shipped, "is_installed", {"onnx", "openvino"}.__contains__)
        monkeypatch.setattr("platform.machine", lambda: "aarch64")
        assert ModelFile("people").given == shipped_toy / "people.onnx"

    def test_without_any_runtime_names_an_extra(self, shipped_toy, monkeypatch) -> None:
        monkeypatch.setattr(shipped, "is_installed", lambda name: False)
        with pytest.raises(MissingExtraError, match=r"pip install 'edge-mrcnn\[tflite\]'"):
            runtimes.load("people")

    def test_with_a_suffix_is_that_file(self, shipped_toy) -> None:
        assert ModelFile("people.onnx").given == shipped_toy / "people.onnx"

    def test_of_a_file_or_folder_here_is_that(self, shipped_toy, model_files, tmp_path, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "people").mkdir()
        (tmp_path / "people" / "mine.onnx").write_bytes(model_files[".onnx"].read_bytes())
        (tmp_path / "people.onnx").write_bytes(model_files[".onnx"].read_bytes())
        assert ModelFile("people").given == Path("people/mine.onnx")
        assert ModelFile("people.onnx").given == Path("people.onnx")

    def test_that_is_not_installed_names_the_package(self, nothing_shipped) -> None:
        with pytest.raises(MissingFileError, match="pip install edge-mrcnn-people"):
            runtimes.load("people")
        with pytest.raises(UsageError, match="pip install edge-mrcnn-people"):
            shipped.default_model()

    def test_of_a_runtime_that_was_left_out_says_which_are_there(self, shipped_toy) -> None:
        (shipped_toy / "people.onnx").unlink()
        model = shipped.find_shipped("people")
        with pytest.raises(MissingFileError, match="not installed for onnx, only for tflite, openvino"):
            model.file_for("onnx")

    def test_has_its_checkpoint_in_a_package_of_its_own(self, shipped_toy) -> None:
        weights = shipped_toy.with_name("edge_mrcnn_people_weights")
        weights.mkdir()
        (weights / "people.pt").touch()
        assert shipped.checkpoint_file("people") == shipped.checkpoint_file("people.pt") == weights / "people.pt"

    def test_without_a_checkpoint_says_so(self, shipped_toy, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(shipped, "CHECKOUT", tmp_path)
        with pytest.raises(MissingFileError, match="pip install edge-mrcnn-people-weights"):
            shipped.checkpoint_file("people")


class TestPhotograph:
    def test_is_a_live_source_of_its_size_and_rate(self, shipped_toy) -> None:
        start = time.monotonic()
        frames = list(itertools.islice(open_source("photograph#size=64x48,fps=100"), 11))
        assert 0.1 <= time.monotonic() - start < 2
        assert frames[0].image.shape == (48, 64, 3)

    def test_moves_from_the_left_end_to_the_right_and_back(self) -> None:
        wall = np.repeat(np.linspace(0, 255, 1500).astype(np.uint8)[None, :, None], 512, axis=0).repeat(3, axis=2)
        middles = [look_at(wall, (48, 64), time_s)[24, 32, 0] for time_s in (0, 7.5, 15, 22.5, 30)]
        assert middles[0] < middles[1] < middles[2] > middles[3] > middles[4]

    def test_photographs_hang_side_by_side_in_one_height(self, shipped_toy) -> None:
        wall = hang(sorted((shipped_toy / "photographs").glob("*.jpg")))
        assert wall.shape == (512, 1024, 3)
        assert wall[256, 256].max() < 10 and wall[256, 768, 0] > 190

    def test_without_photographs_names_the_package(self, nothing_shipped) -> None:
        with pytest.raises(SourceError, match="pip install edge-mrcnn-people"):
            open_source("photograph")

"""Defaults of the commands without a model, a source and an output."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mrcnn.cli import defaults
from edge_mrcnn.model.checkpoint import load_checkpoint
from edge_mrcnn.tune.choice import resolve_model
from runtimes import shipped


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A picture in which the toy model finds three objects."""
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), np.full((64, 96, 3), (0, 0, 3), np.uint8))
    return path


@pytest.fixture(autouse=True)
def somewhere(shipped_toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder, with the toy model installed and no camera."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(defaults, "has_camera", lambda: False)


class TestRun:
    def test_run_without_options_shows_photographs_and_prints_the_address(self, cli: Callable) -> None:
        outcome = cli("run", "--max-frames", 3)
        assert outcome.code == 0, outcome.err
        assert "no camera was found" in outcome.err
        assert "on photograph" in outcome.err
        assert re.search(r"page: http://127\.0\.0\.1:\d+/", outcome.err)
        assert "3 frames in" in outcome.out

    def test_takes_the_first_camera_where_there_is_one(self, monkeypatch) -> None:
        monkeypatch.setattr(defaults, "has_camera", lambda: True)
        assert defaults.choose_sources(()) == ("0",)
        assert defaults.choose_sources(("1", "2")) == ("1", "2")

    def test_of_a_picture_keeps_it_drawn_beside_nothing_of_the_users(self, cli, picture, tmp_path) -> None:
        assert "wrote street-masks.png" in cli("run", "--source", picture).out
        drawn = cv2.imread(str(tmp_path / "street-masks.png"))
        assert (drawn != cv2.imread(str(picture))).any()
        assert "wrote street-masks-2.png" in cli("run", "--source", picture).out

    def test_of_a_folder_keeps_a_folder(self, cli, picture, tmp_path) -> None:
        (tmp_path / "trip").mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / "trip" / name).write_bytes(picture.read_bytes())
        assert cli("run", "--source", "trip").code == 0
        assert sorted(path.name for path in (tmp_path / "trip-masks").iterdir()) == ["a.png", "b.png"]

    def test_with_an_output_of_the_users_adds_none(self, cli, picture, tmp_path) -> None:
        assert cli("run", "--source", picture, "--json", "objects.jsonl").code == 0
        assert not (tmp_path / "street-masks.png").exists()

    def test_of_a_named_model_and_source_adds_none(self, cli, picture, tmp_path) -> None:
        assert cli("run", "--model", "people", "--source", picture).code == 0
        assert not (tmp_path / "street-masks.png").exists()

    def test_takes_another_port_where_the_usual_one_is_taken(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            taken = other.getsockname()[1]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(defaults, "PAGE_PORT", taken)
                assert defaults.free_port() == 0


def test_predict_needs_a_source_alone(cli, picture, tmp_path) -> None:
    outcome = cli("predict", "--source", picture)
    assert "street.png: 2 cat, 1" in outcome.out
    assert (tmp_path / "runs" / "predict" / "street.png").is_file()


def test_models_lists_included_models_without_torch(cli, monkeypatch) -> None:
    monkeypatch.setattr("edge_mrcnn.cli.models.find_spec", lambda name: None)
    outcome = cli("models")
    assert outcome.code == 0, outcome.err
    assert "people: installed; detects cat" in outcome.out
    assert "people.tflite" in outcome.out and "people.onnx" in outcome.out


def test_runtime_of_the_name_can_be_chosen(shipped_toy) -> None:
    assert resolve_model("people", "onnx") == (shipped_toy / "people.onnx", {})
    assert resolve_model("people", threads=2)[1] == {"threads": 2}


class TestCheckpoint:
    def test_in_half_precision_computes_in_full(self, toy_checkpoint, shipped_toy) -> None:
        import torch

        from edge_mrcnn.model.checkpoint import save_checkpoint, seal_checkpoint

        whole = load_checkpoint(toy_checkpoint)
        save_checkpoint(shipped_toy / "people.pt", whole, is_half=True)
        seal_checkpoint(shipped_toy / "people.pt")
        assert (shipped_toy / "people.pt").stat().st_size < 0.6 * toy_checkpoint.stat().st_size
        half = load_checkpoint("people")
        for (name, value), found in zip(
            whole.model.state_dict().items(), half.model.state_dict().values(), strict=True
        ):
            assert found.dtype == value.dtype, name
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-6)

    def test_that_is_damaged_is_refused(self, toy_checkpoint, tmp_path) -> None:
        from edge_mrcnn.model.checkpoint import seal_checkpoint
        from runtimes import ModelFileError

        path = tmp_path / "sealed.pt"
        data = bytearray(toy_checkpoint.read_bytes())
        path.write_bytes(data)
        seal_checkpoint(path)
        load_checkpoint(path)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1  # one bit of one weight, which torch does not notice
        path.write_bytes(data)
        with pytest.raises(ModelFileError, match="damaged"):
            load_checkpoint(path)

    def test_name_is_what_a_training_starts_from(self, shipped_toy, toy_checkpoint) -> None:
        (shipped_toy / "people.pt").write_bytes(toy_checkpoint.read_bytes())
        assert shipped.checkpoint_file("people") == shipped.checkpoint_file("people.pt") == shipped_toy / "people.pt"
        assert load_checkpoint("people").classes == ("square", "disc")

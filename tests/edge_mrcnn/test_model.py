"""The model equals torchvision's, and a checkpoint contains everything to build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

import torchvision  # noqa: E402
from torchvision.models import ResNet50_Weights  # noqa: E402
from torchvision.models.detection import maskrcnn_resnet50_fpn  # noqa: E402

from edge_mrcnn.config import PRESETS, ModelConfig, preset  # noqa: E402
from edge_mrcnn.export.cost import measure_cost  # noqa: E402
from edge_mrcnn.model.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import PAD_RGB, LetterboxedInput, build_model, state_input  # noqa: E402
from edge_mrcnn.reference import load_reference, pick_device  # noqa: E402
from runtimes.errors import MissingFileError, ModelFileError, UsageError  # noqa: E402


def make_target(size_hw: tuple[int, int]) -> dict[str, torch.Tensor]:
    masks = torch.zeros(1, *size_hw, dtype=torch.uint8)
    masks[0, 10:40, 8:50] = 1
    return {"boxes": torch.tensor([[8.0, 10, 50, 40]]), "labels": torch.tensor([1]), "masks": masks}


class TestTraining:
    @pytest.mark.parametrize("agnostic", [True, False])
    def test_losses_are_finite_and_reach_every_weight(self, toy_config: ModelConfig, agnostic: bool) -> None:
        torch.manual_seed(0)
        config = toy_config.updated(class_agnostic_boxes=agnostic)
        model = build_model(config, 2).train()
        images = torch.randint(0, 256, (2, 3, *config.image_size_hw), dtype=torch.uint8)
        losses = model(images, [make_target(config.image_size_hw)] * 2)
        assert len(losses) == 5 and all(torch.isfinite(v) for v in losses.values())
        sum(losses.values()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []

    def test_image_without_objects_is_learnt_from(self, toy_config: ModelConfig) -> None:
        torch.manual_seed(0)
        model = build_model(toy_config, 2).train()
        size = toy_config.image_size_hw
        empty = {k: v[:0] for k, v in make_target(size).items()}
        losses = model(torch.zeros(2, 3, *size, dtype=torch.uint8), [empty, empty])
        assert all(torch.isfinite(v) for v in losses.values())


def test_border_of_the_letterbox_is_zero_inside_the_net() -> None:
    border = torch.tensor(PAD_RGB, dtype=torch.uint8)[:, None, None].expand(3, 64, 64)
    batch, _ = LetterboxedInput((64, 64))([border])
    assert batch.tensors.abs().max() < 0.02


def test_torchvisions_checkpoint_loads_unchanged_and_finds_the_same(make_lively: Callable) -> None:
    config = preset("resnet50").updated(image_size_hw=(128, 192))
    theirs = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, min_size=128, max_size=192).eval()
    theirs.load_state_dict(make_lively(config, 90).state_dict())
    ours = build_model(config, 90).eval()
    state = {k: v for k, v in theirs.state_dict().items() if not k.endswith("num_batches_tracked")}
    ours.load_state_dict(state)
    image = torch.randint(0, 256, (3, 128, 192), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (expected,), (found,) = theirs([image / 255]), ours([image])
    assert len(found["scores"]) == len(expected["scores"]) > 0
    for name in ("boxes", "labels", "scores", "masks"):
        torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", PRESETS)
def test_cost_of_a_preset_is_counted(name: str) -> None:
    config = preset(name).updated(image_size_hw=(64, 64), proposals=8, max_detections=4, proposals_per_level=20)
    model = build_model(config, 1)
    cost = measure_cost(model, config)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.macs > 1e6


class TestCheckpoint:
    def test_same_detections_after_saving_and_loading(self, toy_checkpoint: Path, tmp_path: Path) -> None:
        checkpoint = load_checkpoint(toy_checkpoint)
        checkpoint = replace(checkpoint, training={"epoch": 3, "map": [0.5, None]})
        save_checkpoint(tmp_path / "new" / "copy.pt", checkpoint)
        again = load_checkpoint(tmp_path / "new" / "copy.pt")
        assert (again.config, again.classes, again.category_ids) == (
            checkpoint.config,
            checkpoint.classes,
            checkpoint.category_ids,
        )
        assert again.training == {"epoch": 3, "map": [0.5, None]}
        assert not again.model.training
        assert [p.name for p in (tmp_path / "new").iterdir()] == ["copy.pt"]
        for key, value in again.model.state_dict().items():
            assert torch.equal(value, checkpoint.model.state_dict()[key])

    def test_file_runs_no_code(self, toy_checkpoint: Path) -> None:
        record = torch.load(toy_checkpoint, weights_only=True)
        assert record["format"].startswith("edge-mrcnn")

    def test_missing_file(self, tmp_path: Path) -> None:
        for path in (tmp_path / "none.pt", tmp_path):
            with pytest.raises(MissingFileError):
                load_checkpoint(path)

    @pytest.mark.parametrize("keep", [0, 1, 100, 0.3, 0.9, 0.999])
    def test_truncated_file(self, toy_checkpoint: Path, tmp_path: Path, keep: float) -> None:
        content = toy_checkpoint.read_bytes()
        path = tmp_path / "cut.pt"
        path.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
        with pytest.raises(ModelFileError, match=r"cut\.pt"):
            load_checkpoint(path)

    @pytest.mark.parametrize(
        "content", [{}, [1], {"state_dict": {}}, torch.zeros(2)], ids=["{}", "[]", "other", "tensor"]
    )
    def test_foreign_file(self, tmp_path: Path, content: object) -> None:
        torch.save(content, tmp_path / "foreign.pt")
        with pytest.raises(ModelFileError, match=r"foreign\.pt"):
            load_checkpoint(tmp_path / "foreign.pt")

    @pytest.mark.parametrize(
        "change",
        [
            {"state_dict": {}},
            {"classes": ["one"]},
            {"config": {"name": "toy", "telepathy": 1}},
            {"config": {"backbone": "none"}},
            {"config": None},
            {"category_ids": 5},
        ],
        ids=lambda change: next(iter(change)),
    )
    def test_tampered_record_is_one_line(self, toy_checkpoint: Path, tmp_path: Path, change: dict) -> None:
        torch.save({**torch.load(toy_checkpoint, weights_only=True), **change}, tmp_path / "odd.pt")
        with pytest.raises(ModelFileError) as caught:
            load_checkpoint(tmp_path / "odd.pt")
        assert "\n" not in str(caught.value)


class TestReference:
    def test_finds_what_torchvision_finds(self, toy_checkpoint: Path, noise_tensors: list[np.ndarray]) -> None:
        model = load_checkpoint(toy_checkpoint).model
        with load_reference(toy_checkpoint, "cpu") as runtime:
            for tensor in noise_tensors:
                raw = runtime.run(tensor)
                with torch.inference_mode():
                    (expected,) = model(torch.from_numpy(tensor).permute(0, 3, 1, 2))
                assert np.array_equal(raw.boxes, expected["boxes"])
                assert np.array_equal(raw.labels, expected["labels"] - 1)
                assert raw.masks.shape == (len(raw.boxes), 28, 28)

    def test_card_states_the_model(self, toy_checkpoint: Path, toy_config: ModelConfig) -> None:
        card = load_reference(toy_checkpoint, "cpu").card
        assert (card.classes, card.category_ids) == (("square", "disc"), (3, 7))
        assert (card.input_size_hw, card.proposals) == (toy_config.image_size_hw, toy_config.proposals)
        assert len(card.checkpoint_sha256) == 64 and card.parameters > 0

    def test_no_detections_is_a_valid_output(self, toy_checkpoint: Path) -> None:
        runtime = load_reference(toy_checkpoint, "cpu")
        runtime._model.roi_heads.score_thresh = 0.999999
        found = runtime.infer(np.zeros((50, 70, 3), np.uint8))
        assert len(found) == 0 and found.mask_probs.shape == (0, 28, 28)

    @pytest.mark.parametrize("name", ["gpu3", "cuda" if not torch.cuda.is_available() else "tpu"])
    def test_device_that_is_not_there_is_refused(self, name: str) -> None:
        with pytest.raises(UsageError):
            pick_device(name)


def test_smaller_thresholds_find_more(toy_config: ModelConfig, make_lively: Callable) -> None:
    image = torch.randint(0, 256, (3, *toy_config.image_size_hw), dtype=torch.uint8)
    counts = []
    for threshold in (0.2, 0.5, 0.8):
        model = make_lively(toy_config.updated(score_threshold=threshold, max_detections=50), 2)
        with torch.inference_mode():
            counts.append(len(model([image])[0]["scores"]))
    assert counts == sorted(counts, reverse=True) and counts[0] > 0


@pytest.mark.parametrize(("given", "expected"), [(None, 0.5), ((0.4, 0.4, 0.4), 0.4)])
def test_pictures_are_normalised_as_the_config_says_else_as_the_backbone_does(
    toy_config: ModelConfig, given: tuple[float, float, float] | None, expected: float
) -> None:
    config = toy_config.updated(backbone="timm:tf_efficientnet_lite0", image_mean=given)
    model = build_model(config, 2)
    assert model.transform.image_mean == [expected] * 3
    assert state_input(config, model).image_mean == (expected,) * 3


def test_weights_of_a_backbone_train_alike_wherever_they_come_from(tmp_path: Path, monkeypatch: Any) -> None:
    """Torchvision freezes layers and norms of downloaded weights; here, only the settings of the training do."""
    state = torchvision.models.resnet50().state_dict()
    torch.save(state, tmp_path / "resnet50.pth")
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", lambda *_, **__: state)
    config = preset("resnet50")
    downloaded = build_model(config, 2, pretrained=True)
    local = build_model(config, 2, backbone_weights=tmp_path / "resnet50.pth")
    for model in (downloaded, local):
        assert all(parameter.requires_grad for parameter in model.parameters())
        assert torch.equal(model.backbone.body.layer1[0].conv1.weight, state["layer1.0.conv1.weight"])
    kinds = [[type(layer) for layer in model.modules()] for model in (downloaded, local)]
    assert kinds[0] == kinds[1]

"""Checkpoints of torchvision's Mask R-CNNs open as if we had written them, and find what torchvision finds.

Nothing is downloaded: the models are torchvision's with random weights, scaled so that they find objects.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from torchvision.models import get_model, get_model_weights  # noqa: E402
from torchvision.models.detection.roi_heads import paste_masks_in_image  # noqa: E402

from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.checkpoint import load_checkpoint, rename_classes, save_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import apply_inference_settings  # noqa: E402
from edge_mrcnn.model.published import MODELS, PREFIX, file_stem, import_torchvision, locate  # noqa: E402
from edge_mrcnn.reference import load_reference  # noqa: E402
from runtimes.errors import DataError, MissingFileError, ModelFileError, UsageError  # noqa: E402

SIZE_HW = (64, 128)
CLASSES = 3


class Trained:
    """One of torchvision's models: the model and the file of its weights."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.path = name, folder / f"{name}.pth"
        torch.manual_seed(0)
        settings: dict[str, Any] = {"min_size": SIZE_HW[0], "max_size": SIZE_HW[1], "num_classes": CLASSES + 1}
        self.model = get_model(name, weights=None, weights_backbone=None, **settings).eval()
        self.model.roi_heads.detections_per_img = 12
        self.model.rpn._post_nms_top_n["testing"] = 40
        self._enliven()
        torch.save(self.model.state_dict(), self.path)

    @torch.no_grad()
    def _enliven(self) -> None:
        noise = torch.randn(1, 3, *SIZE_HW)
        for block in self.model.backbone.fpn.layer_blocks:
            block[0].weight.div_(self.model.backbone(noise)["0"].std().clamp(min=1e-3))
        heads = self.model.roi_heads
        for layer, deviation in (
            (self.model.rpn.head.cls_logits, 0.05),
            (self.model.rpn.head.bbox_pred, 0.03),
            (heads.box_predictor.cls_score, 0.3),
            (heads.box_predictor.bbox_pred, 0.05),
        ):
            torch.nn.init.normal_(layer.weight, std=deviation)

    def find(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """torchvision's own inference on (3, H, W) uint8."""
        with torch.inference_mode():
            (found,) = self.model([image / 255])
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return Trained(MODELS[0], tmp_path_factory.mktemp("published"))


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_finds_what_torchvision_finds(name: str, tmp_path: Path) -> None:
    trained = Trained(name, tmp_path)
    noise = torch.randint(0, 256, (3, *SIZE_HW), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    checkpoint = load_checkpoint(trained.path)
    assert checkpoint.config.name == name
    assert (checkpoint.classes, checkpoint.category_ids) == (("class1", "class2", "class3"), (1, 2, 3))
    config = checkpoint.config.updated(image_size_hw=SIZE_HW, max_detections=12, proposals=40)
    apply_inference_settings(checkpoint.model, config)
    expected = trained.find(noise)
    with torch.inference_mode():
        boxes, scores, labels, masks = DeployGraph(checkpoint.model, config)(noise.permute(1, 2, 0)[None])
    found = {"boxes": boxes, "scores": scores, "labels": labels + 1}
    found["masks"] = paste_masks_in_image(masks[:, None], boxes, SIZE_HW)
    assert len(scores) == len(expected["scores"]) == 12
    for field, values in found.items():
        torch.testing.assert_close(values, expected[field], atol=1e-3, rtol=1e-4)


def test_frozen_norm_divides_by_the_variance_alone(trained: Trained, tmp_path: Path) -> None:
    """Torchvision's published weights were trained with an epsilon of 0, see its `overwrite_eps`."""
    state = {key: v for key, v in torch.load(trained.path).items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "frozen.pth")
    norm = load_checkpoint(tmp_path / "frozen.pth").model.backbone.body.bn1
    torch.testing.assert_close(norm.running_var + norm.eps, state["backbone.body.bn1.running_var"])


def test_it_is_converted_once_by_saving(trained: Trained, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(trained.path)
    save_checkpoint(tmp_path / "ours.pt", rename_classes(checkpoint, ("a", "b", "c"), (7, 8, 9)))
    again = load_checkpoint(tmp_path / "ours.pt")
    assert (again.classes, again.category_ids) == (("a", "b", "c"), (7, 8, 9))
    assert again.config.backbone == checkpoint.config.backbone
    state = checkpoint.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in again.model.state_dict().items())


def test_names_must_be_as_many_as_classes(trained: Trained) -> None:
    with pytest.raises(DataError, match="names of 3 classes, got 2"):
        rename_classes(load_checkpoint(trained.path), ("a", "b"))


def test_what_the_training_script_of_torchvision_saves_is_read_too(trained: Trained, tmp_path: Path) -> None:
    state = torch.load(trained.path, weights_only=True)
    torch.save({"model": state, "args": argparse.Namespace(lr=0.02), "epoch": 3}, tmp_path / "model_3.pth")
    assert load_checkpoint(tmp_path / "model_3.pth").config.name == trained.name


@pytest.mark.parametrize(
    ("keys", "prefix"),
    [
        (("model_state_dict",), "module."),
        (("state_dict",), "model."),
        (("state_dict",), "net.model._orig_mod."),
        (("checkpoint", "model"), ""),
        (("ema",), "module."),
        ((), "model."),
    ],
)
def test_wrappers_of_training_loops_are_unpacked(
    keys: tuple[str, ...], prefix: str, trained: Trained, tmp_path: Path
) -> None:
    state = torch.load(trained.path, weights_only=True)
    record: dict[str, Any] = {f"{prefix}{name}": value for name, value in state.items()}
    for key in reversed(keys):
        record = {key: record, "epoch": 3}
    found = import_torchvision(tmp_path, record)
    assert found is not None and found.config.name == trained.name
    assert all(torch.equal(value, state[name]) for name, value in found.state.items())


def test_averaged_weights_are_preferred(trained: Trained, tmp_path: Path) -> None:
    state = torch.load(trained.path, weights_only=True)
    last = {name: torch.zeros_like(value) for name, value in state.items()}
    for record in ({"model": last, "model_ema": state}, {**prefixed("model.", last), **prefixed("ema_model.", state)}):
        found = import_torchvision(tmp_path, record)
        assert found is not None and torch.equal(
            found.state["rpn.head.cls_logits.weight"], state["rpn.head.cls_logits.weight"]
        )
        assert any("ema" in note for note in found.notes)


def prefixed(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": value for name, value in state.items()}


def test_other_anchors_are_refused(trained: Trained, tmp_path: Path) -> None:
    state = dict(torch.load(trained.path, weights_only=True))
    state["rpn.head.cls_logits.bias"] = torch.zeros(5)
    with pytest.raises(ModelFileError, match="5 anchors per position, its settings have 3"):
        import_torchvision(tmp_path / "mine.pth", state)


def test_published_name_is_taken_from_where_torchvision_keeps_it(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    kept = tmp_path / "checkpoints" / Path(get_model_weights(trained.name).DEFAULT.url).name
    kept.parent.mkdir()
    kept.symlink_to(trained.path)
    name = f"{PREFIX}{trained.name}"
    assert locate(name) == kept and file_stem(name) == trained.name
    with load_reference(name, "cpu") as runtime:
        assert (runtime.card.name, len(runtime.card.classes)) == (trained.name, CLASSES)
        assert (runtime.card.proposals, runtime.card.max_detections, runtime.card.mask_size) == (1000, 100, 28)


def test_coco_names_come_with_cocos_logits(trained: Trained) -> None:
    from edge_mrcnn.model.published import describe

    state = dict(torch.load(trained.path, weights_only=True))
    state["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(91, 1)
    _, classes, ids = describe(state)
    assert (classes[0], classes[89], ids) == ("person", "toothbrush", tuple(range(1, 91)))


def test_unknown_name_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="torchvision:maskrcnn_resnet50_fpn_v2"):
        locate("torchvision:maskrcnn_mobilenet")


def test_failed_download_says_where_to_put_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(MissingFileError, match=r"no route to host.*maskrcnn_resnet50_fpn_coco-bf2d0c1e\.pth"):
        locate("torchvision:maskrcnn_resnet50_fpn")


def test_other_state_dicts_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="Mask R-CNN of torchvision"):
        load_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("name", "expected"), [("a.pt", True), ("b/a.pth", True), (f"{PREFIX}{MODELS[1]}", True), ("a.onnx", False)]
)
def test_a_report_knows_a_checkpoint_by_its_name(name: str, expected: bool) -> None:
    from edge_mrcnn.measure.files import is_checkpoint

    assert is_checkpoint(Path(name)) == expected

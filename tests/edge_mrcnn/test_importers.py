"""Checkpoints of Detectron2 and MMDetection give the same detections here as there; what cannot be used is named.

The models are small ResNet FPNs with random weights under their projects' names; Detectron2's answers come from its
inference, written once more in tests/helpers/detectron2_model.py.
"""

from __future__ import annotations

import pickle
import sys
import types
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

import yaml  # noqa: E402
from detectron2_model import Recipe, infer, make_state  # noqa: E402
from mmdetection_model import VERSION_3, VERSIONS, mmdetection_record, mmdetection_state  # noqa: E402

from edge_mrcnn.export.graph import DeployGraph  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.model.importers.origin import Origin  # noqa: E402
from edge_mrcnn.model.mask_rcnn import apply_inference_settings  # noqa: E402
from edge_mrcnn.reference import TorchRuntime, make_card  # noqa: E402
from runtimes.base import RawOutputs  # noqa: E402
from runtimes.errors import DataError, MissingFileError, ModelFileError, UsageError  # noqa: E402
from runtimes.parity import Tolerance, compare_outputs  # noqa: E402

SIZE_HW = (128, 192)

RECIPES = {
    "r50": Recipe(),
    "r50-stride-in-3x3": Recipe(
        stride_in_1x1=False, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375), format="RGB"
    ),
    "r101": Recipe(depth=101, classes=5),
    "other-mean": Recipe(mean=(102.9801, 115.9465, 122.7717), classes=1),
    "roialign-v1-two-samples": Recipe(aligned=False, samples=2),
    "two-samples": Recipe(samples=2),
}


def picture(seed: int = 0) -> Any:
    """(H, W, 3) uint8 RGB: smooth noise, in which there is something to find."""
    coarse = torch.randint(0, 256, (1, 3, 16, 24), generator=torch.Generator().manual_seed(seed)).float()
    smooth = torch.nn.functional.interpolate(coarse, SIZE_HW, mode="bilinear")
    return smooth[0].permute(1, 2, 0).round().to(torch.uint8)


def write_detectron2(folder: Path, recipe: Recipe, **changes: Any) -> Path:
    """`model_final.pth` and `config.yaml` as a training of Detectron2 leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    state = make_state(recipe) | changes
    torch.save({"model": state, "iteration": 1, "trainer": {}}, folder / "model_final.pth")
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe.config()))
    return folder / "model_final.pth"


def at_size(checkpoint: Checkpoint) -> Checkpoint:
    config = checkpoint.config.updated(image_size_hw=SIZE_HW)
    apply_inference_settings(checkpoint.model, config)
    return replace(checkpoint, config=config)


EXACT = Tolerance(box_px=1e-3, score=1e-5, mask=1e-4, matched=1.0, surplus=0.0)


def assert_same(found: Any, expected: Any, checkpoint: Checkpoint, tolerance: Tolerance = EXACT) -> None:
    """Every detection is there, and as it should be."""
    wanted, got = (RawOutputs(*(np.asarray(values) for values in answer)) for answer in (expected, found))
    parity = compare_outputs([wanted], [got], make_card(checkpoint), tolerance)
    assert parity.detections > 5
    assert parity.passes(tolerance), str(parity)


@pytest.mark.parametrize("name", RECIPES)
def test_detectron2_checkpoint_gives_detectron2s_detections(name: str, tmp_path: Path) -> None:
    recipe, image = RECIPES[name], picture()
    checkpoint = at_size(load_checkpoint(write_detectron2(tmp_path, recipe)))
    expected = infer(make_state(recipe), recipe, image)
    assert_same(TorchRuntime(checkpoint, device="cpu").run(image.numpy()[None]), expected, checkpoint)
    with torch.inference_mode():
        assert_same(DeployGraph(checkpoint.model, checkpoint.config)(image[None]), expected, checkpoint)
    assert make_card(checkpoint).mask_offset == (0.0 if recipe.aligned else 0.5)


def test_size_and_names_are_those_of_configuration_and_weights(tmp_path: Path) -> None:
    recipe = Recipe(classes=80)
    checkpoint = load_checkpoint(write_detectron2(tmp_path, recipe))
    assert (checkpoint.classes[0], checkpoint.classes[79], checkpoint.category_ids[79]) == ("person", "toothbrush", 90)
    assert (checkpoint.config.proposals, checkpoint.config.max_detections) == (recipe.proposals, recipe.detections)
    assert checkpoint.training["imported"] == "Detectron2 R50-FPN"


def test_what_its_training_froze_stays_frozen(tmp_path: Path) -> None:
    usual = load_checkpoint(write_detectron2(tmp_path, Recipe())).training["settings"]
    assert usual == {"freeze_norm": True, "freeze_stages": 2}
    config = Recipe().config()
    config["MODEL"]["RESNETS"]["NORM"], config["MODEL"]["BACKBONE"] = "BN", {"FREEZE_AT": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    other = load_checkpoint(tmp_path / "model_final.pth").training["settings"]
    assert other == {"freeze_norm": False, "freeze_stages": 0}
    text = VERSION_3.replace("style='pytorch'", "style='pytorch', frozen_stages=1, norm_eval=True")
    record = {"state_dict": mmdetection_state(VERSIONS[3]), "meta": {"cfg": text}}
    torch.save(record, tmp_path / "epoch_12.pth")
    assert load_checkpoint(tmp_path / "epoch_12.pth").training["settings"] == usual


def test_a_checkpoint_of_ours_carries_it_on(tmp_path: Path) -> None:
    recipe, image = RECIPES["r50"], picture(1)
    imported = at_size(load_checkpoint(write_detectron2(tmp_path, recipe)))
    save_checkpoint(tmp_path / "ours.pt", imported)
    again = load_checkpoint(tmp_path / "ours.pt")
    assert again.config == imported.config
    expected = infer(make_state(recipe), recipe, image)
    assert_same(TorchRuntime(again, device="cpu").run(image.numpy()[None]), expected, again)


def test_pickle_of_the_model_zoo_is_read_without_its_configuration(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = {name: value.numpy() for name, value in make_state(RECIPES["r50"]).items()}
    path = tmp_path / "model_final_a54504.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}, protocol=2))
    checkpoint = load_checkpoint(path)
    assert checkpoint.config.stride_in_1x1 and checkpoint.config.roi_samples == 0
    assert "Detectron2's defaults are assumed" in caplog.text


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"model": Trap()}))
    with pytest.raises(ModelFileError, match="a pickle that would run"):
        load_checkpoint(tmp_path / "model.pkl")
    torch.save({"model": Trap()}, tmp_path / "model.pth")
    with pytest.raises(ModelFileError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "model.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "shape", "what"),
    [
        ("roi_heads.box_predictor.0.cls_score.weight", (4, 16), "Cascade"),
        ("roi_heads.res5.0.conv1.weight", (4, 4, 1, 1), "C4"),
        ("backbone.bottom_up.res3.0.conv2.weight", (8, 2, 3, 3), "ResNeXt backbone of 4 groups"),
        ("backbone.fpn_output2.norm.weight", (8,), "GroupNorm"),
        ("roi_heads.mask_head.mask_fcn5.weight", (8, 8, 3, 3), "5 convolutions in the mask head"),
        ("roi_heads.keypoint_head.conv_fcn1.weight", (8, 8, 3, 3), "keypoint"),
        ("backbone.bottom_up.res3.0.squeeze.weight", (8, 8), "1 unknown weights, such as backbone"),
    ],
)
def test_part_without_counterpart_is_named_with_advice(
    name: str, shape: tuple[int, ...], what: str, tmp_path: Path
) -> None:
    path = write_detectron2(tmp_path, Recipe(), **{name: torch.zeros(shape)})
    with pytest.raises(ModelFileError, match=rf"{what}.*edge-mrcnn train --data DIR.*cannot be its teacher"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("setting", "value", "what"),
    [
        ("MODEL.ROI_MASK_HEAD.NUM_CONV", 2, "2 convolutions in the mask head"),
        ("MODEL.BACKBONE.NAME", "build_swint_fpn_backbone", "backbone build_swint_fpn_backbone"),
        ("MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "CascadeROIHeads"),
        ("MODEL.RESNETS.NORM", "GN", "GN norm layers"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", 80, "3 classes, its configuration says 50 and 80"),
        ("MODEL.RESNETS.DEPTH", 101, "ResNet of 50 layers and 3 classes, its configuration says 101"),
        ("MODEL.PIXEL_MEAN", [1.0, 2.0], r"a value in another form than Detectron2's \(not enough values"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [32, 64], "several sizes of anchors on one level"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", [[32]] * 4, "anchors on 4 levels"),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[0.5, 1.0, 2.0], [1.0]], "other aspect ratios of anchors on each"),
        ("_BASE_", "config.yaml", "_BASE_ leads back to config.yaml"),
    ],
)
def test_a_setting_without_a_counterpart_is_named(setting: str, value: Any, what: str, tmp_path: Path) -> None:
    path = write_detectron2(tmp_path, Recipe())
    config = Recipe().config()
    *sections, key = setting.split(".")
    inner = config
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[key] = value
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ModelFileError, match=what):
        load_checkpoint(path)


def test_configuration_may_be_elsewhere_and_based_on_another(tmp_path: Path) -> None:
    path = write_detectron2(tmp_path / "run", Recipe(stride_in_1x1=False))
    (tmp_path / "run" / "config.yaml").rename(tmp_path / "base.yaml")
    (tmp_path / "mine.yaml").write_text("_BASE_: base.yaml\nMODEL:\n  ROI_HEADS:\n    SCORE_THRESH_TEST: 0.2\n")
    names = Origin(config=tmp_path / "mine.yaml", classes=("a", "b", "c"), category_ids=(1, 2, 3))
    checkpoint = load_checkpoint(path, names)
    assert not checkpoint.config.stride_in_1x1 and checkpoint.config.score_threshold == 0.2
    assert checkpoint.classes == ("a", "b", "c")
    with pytest.raises(DataError, match="names of 3 classes, got 1"):
        load_checkpoint(path, Origin(classes=("a",)))
    with pytest.raises(MissingFileError, match="no such configuration"):
        load_checkpoint(path, Origin(config=tmp_path / "none.yaml"))
    with pytest.raises(UsageError, match=r"expected a Detectron2 config\.yaml"):
        load_checkpoint(path, Origin(config=tmp_path / "mask_rcnn.py"))


def test_values_in_strings_are_read_as_yacs_reads_them(tmp_path: Path) -> None:
    path = write_detectron2(tmp_path, Recipe())
    config = Recipe().config()
    config["MODEL"] |= {"PIXEL_STD": "(2.0, 2.0, 2.0)", "ROI_BOX_HEAD": {"BBOX_REG_WEIGHTS": "(10, 10, 5, 5)"}}
    config["MODEL"]["ANCHOR_GENERATOR"] = {
        "SIZES": "((32,), (64,), (128,), (256,), (500,))",
        "ASPECT_RATIOS": [1, 2, 3],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    loaded = load_checkpoint(path).config
    assert loaded.anchor_sizes[-1] == 500 and loaded.anchor_ratios == (1.0, 2.0, 3.0)


def test_old_files_say_their_anchors_and_pixel_statistics_themselves(tmp_path: Path) -> None:
    recipe = RECIPES["r50-stride-in-3x3"]
    state = make_state(recipe)
    state |= {"pixel_mean": torch.tensor(recipe.mean).reshape(3, 1, 1), "pixel_std": torch.tensor(recipe.std)}
    for level in range(5):
        w = (20.0 * 2**level) * torch.tensor([0.5, 1.0, 2.0]).rsqrt()
        h = (20.0 * 2**level) ** 2 / w
        state[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = torch.stack([-w, -h, w, h], 1) / 2
    torch.save({"model": state}, tmp_path / "old.pth")
    (tmp_path / "config.yaml").write_text("trainer: of another tool\n")
    old = load_checkpoint(tmp_path / "old.pth")
    assert old.config.anchor_sizes == (20.0, 40.0, 80.0, 160.0, 320.0)
    assert old.config.anchor_ratios == (0.5, 1.0, 2.0)
    stated = load_checkpoint(write_detectron2(tmp_path / "new", recipe))
    name = "backbone.body.conv1.weight"
    assert torch.allclose(old.model.state_dict()[name], stated.model.state_dict()[name])


def test_weights_in_another_precision_are_computed_in_float32(tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in make_state(Recipe()).items()}, tmp_path / "half.pth")
    assert {value.dtype for value in load_checkpoint(tmp_path / "half.pth").model.parameters()} == {torch.float32}


@pytest.mark.parametrize("version", [2, 3])
def test_mmdetection_checkpoint_gives_the_same_detections(version: int, tmp_path: Path) -> None:
    recipe, names = VERSIONS[version], ("cat", "dog", "bird")
    torch.save(mmdetection_record(version, names), tmp_path / "epoch_12.pth")
    checkpoint = at_size(load_checkpoint(tmp_path / "epoch_12.pth"))
    assert checkpoint.classes == names
    assert checkpoint.config.stride_in_1x1 == (version == 2)
    image = picture(2)
    found = TorchRuntime(checkpoint, device="cpu").run(image.numpy()[None])
    assert_same(found, infer(make_state(recipe), recipe, image), checkpoint)


def make_foreign(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> Any:
    """An object of a class of a package that is installed now and gone when the file is read."""
    kind = type(name, (), {"__module__": module})
    package = ""
    for part in module.split("."):
        package = f"{package}.{part}" if package else part
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    setattr(sys.modules[module], name, kind)
    foreign = kind()
    foreign.values = [1.0, 2.0]
    return foreign


def test_classes_of_training_tools_in_a_file_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "mmengine.logging.history_buffer"
    record = {"state_dict": mmdetection_state(Recipe()), "hub": make_foreign(monkeypatch, module, "HistoryBuffer")}
    torch.save(record, tmp_path / "epoch_1.pth")
    monkeypatch.delitem(sys.modules, module)
    assert load_checkpoint(tmp_path / "epoch_1.pth").config.name == "mmdetection-r50-fpn"


@pytest.mark.parametrize(
    ("module", "name", "what"),
    [
        ("ultralytics.nn.tasks", "SegmentationModel", "an ultralytics model.*edge-mrcnn train --data DIR"),
        ("detectron2.modeling", "GeneralizedRCNN", "a pickled Detectron2 model.*state_dict"),
        ("my_project.net", "Net", r"a pickled object of class my_project\.net\.Net"),
    ],
)
def test_a_pickled_model_is_named(
    module: str, name: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"epoch": 3, "model": make_foreign(monkeypatch, module, name)}, tmp_path / "best.pt")
    monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ModelFileError, match=what):
        load_checkpoint(tmp_path / "best.pt")


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("layer1.0.conv1.weight", "fc.weight"), "a classifier.*--backbone-weights"),
        (("backbone.body.conv1.weight", "roi_heads.box_predictor.cls_score.weight"), "Faster R-CNN"),
        (("module.backbone.body.x", "module.roi_heads.box_predictor.x"), "Faster R-CNN"),
        (("roi_heads.keypoint_predictor.weight",), "Keypoint R-CNN"),
        (("not_finite", "model.backbone.weight"), r"training state of edge-mrcnn.*best\.pt"),
        (("stem.conv1.weight", "res2.0.conv1.weight"), "a backbone of Detectron2 alone"),
        (("weight",), "this file contains weight"),
    ],
)
def test_other_weights_are_named(names: tuple[str, ...], what: str, tmp_path: Path) -> None:
    torch.save({"state_dict": {name: torch.zeros(2) for name in names}}, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match=what):
        load_checkpoint(tmp_path / "other.pth")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS.*git lfs pull"),
        ("<!DOCTYPE html><html>", "a web page.*download it again"),
    ],
)
def test_failed_download_is_named(content: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_text(content)
    with pytest.raises(ModelFileError, match=what):
        load_checkpoint(tmp_path / "model.pth")


def test_files_of_keras_and_torchscript_are_named(tmp_path: Path) -> None:
    (tmp_path / "mask_rcnn_coco.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + 64 * b"." + b"mrcnn_mask_conv1")
    with pytest.raises(ModelFileError, match=r"Matterport.*edge-mrcnn train --data DIR"):
        load_checkpoint(tmp_path / "mask_rcnn_coco.h5")
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(ModelFileError, match="a Keras model"):
        load_checkpoint(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"")
    with pytest.raises(ModelFileError, match=r"TorchScript.*state_dict"):
        load_checkpoint(tmp_path / "script.pt")

"""Anchors of a new model fit its input size; an old checkpoint keeps the anchors of its training."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from torchvision.models.detection.image_list import ImageList  # noqa: E402

from edge_mrcnn.config import PRESETS, ModelConfig, default_anchor_sizes  # noqa: E402
from edge_mrcnn.data import load  # noqa: E402
from edge_mrcnn.model.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402
from edge_mrcnn.train.start import continue_from, start_fresh  # noqa: E402
from runtimes.errors import UsageError  # noqa: E402


def sides(model) -> list[float]:
    return [size for (size,) in model.rpn.anchor_generator.sizes]


@pytest.mark.parametrize(("side", "largest"), [(256, 192), (320, 192), (448, 384), (512, 384), (640, 384), (832, 768)])
def test_largest_anchor_fits_the_input(side: int, largest: float) -> None:
    sizes = default_anchor_sizes(ModelConfig(image_size_hw=(64, side)))
    assert sizes[:4] == (24, 48, 96, 192) and sizes[-1] == largest


def test_new_model_has_a_level_for_each_anchor_and_records_them(
    toy_config: ModelConfig, toy_data: Path, tmp_path
) -> None:
    wide = replace(toy_config, image_size_hw=(64, 448))
    fresh = start_fresh(wide, load(toy_data, "train"), 0, False, None)
    assert fresh.config.anchor_sizes == (24, 48, 96, 192, 384) and sides(fresh.model) == [24, 48, 96, 192, 384]
    save_checkpoint(tmp_path / "a.pt", fresh)
    again = continue_from(tmp_path / "a.pt", load(toy_data, "train"), image_size_hw=(64, 128))
    assert sides(again.model) == sides(fresh.model)


def test_resnet_preset_with_another_backbone_gets_fitting_anchors(toy_data: Path) -> None:
    config = replace(PRESETS["resnet50"], backbone="repvgg_lite", fpn_channels=16, box_hidden=(8,), mask_hidden=(8,))
    fresh = start_fresh(config, load(toy_data, "train"), 0, False, None)
    assert fresh.config.anchor_sizes[-1] == 768 and len(fresh.model.rpn.anchor_generator.sizes) == 6


def test_old_checkpoint_keeps_four_levels_whatever_its_input(toy_config: ModelConfig) -> None:
    record = replace(toy_config, image_size_hw=(64, 640)).to_dict()
    del record["anchor_sizes"]
    model = build_model(ModelConfig.from_dict(record), 2)
    assert sides(model) == [24, 48, 96, 192]


def test_too_few_anchors_are_refused(toy_config: ModelConfig) -> None:
    with pytest.raises(UsageError, match="one for each level, 4 or more"):
        build_model(replace(toy_config, anchor_sizes=(24.0, 48.0)), 2)


@pytest.mark.parametrize("size_hw", [(96, 160), (64, 448)])
def test_anchors_lie_where_their_pixels_are(toy_config: ModelConfig, size_hw: tuple[int, int]) -> None:
    """A pixel of stride s stands at multiples of s, also where the input is no multiple of it."""
    config = replace(toy_config, image_size_hw=size_hw)
    model = build_model(replace(config, anchor_sizes=default_anchor_sizes(config)), 2).eval()
    blank = torch.zeros(1, 3, *size_hw)
    maps = list(model.backbone(blank).values())
    (anchors,) = model.rpn.anchor_generator(ImageList(blank, [size_hw]), maps)
    start = 0
    for level, one in enumerate(maps):
        height, width = one.shape[-2:]
        stride = 8 * 2**level
        assert (height, width) == (-(-size_hw[0] // stride), -(-size_hw[1] // stride))
        last = anchors[start : start + 3 * height * width][-1]
        assert ((last[:2] + last[2:]) / 2).tolist() == [stride * (width - 1), stride * (height - 1)]
        start += 3 * height * width
    assert start == len(anchors)


def test_model_of_an_odd_number_of_cells_is_exported_as_it_is(
    cli: Callable, make_lively: Callable, toy_checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("onnx", reason="pip install 'edge-mrcnn[export]'")
    trained = load_checkpoint(toy_checkpoint)
    # 96 pixels are one and a half cells of stride 64, 448 are three and a half of stride 128.
    config = replace(trained.config, image_size_hw=(96, 448))
    config = replace(config, anchor_sizes=default_anchor_sizes(config), score_threshold=0.0)
    save_checkpoint(tmp_path / "toy.pt", replace(trained, config=config, model=make_lively(config, 2)))
    outcome = cli("export", "--weights", tmp_path / "toy.pt", "--target", "onnx")
    assert outcome.code == 0, outcome.err
    matched = re.search(r"toy.onnx: (\d+)/(\d+) detections", outcome.err)
    assert matched and matched[1] == matched[2] and int(matched[1]) > 10
    assert (tmp_path / "toy.onnx").is_file() and (tmp_path / "export.toml").is_file()

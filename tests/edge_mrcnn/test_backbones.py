"""The contract of all backbones, and the reparameterisation of RepVGG."""

from __future__ import annotations

import importlib
import re
from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

import quantize  # noqa: E402
from edge_mrcnn.config import IMAGENET_MEAN, IMAGENET_STD  # noqa: E402
from edge_mrcnn.model.backbones import BACKBONES, build_backbone  # noqa: E402
from edge_mrcnn.model.backbones.repvgg import RepVGGBlock  # noqa: E402
from edge_mrcnn.model.fusing import fused  # noqa: E402
from runtimes.errors import MissingFileError, ModelFileError, UsageError  # noqa: E402

NAMES = [*BACKBONES, "timm:mobilenetv3_small_050"]


def randomise_norms(module: torch.nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_var.uniform_(0.5, 2)
            layer.running_mean.normal_()
            torch.nn.init.normal_(layer.weight)
            torch.nn.init.normal_(layer.bias)


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_feature_maps_have_the_declared_channels_and_strides(name: str) -> None:
    backbone = build_backbone(name).eval()
    maps = backbone(torch.zeros(1, 3, 64, 128))
    assert backbone.strides == (8, 16, 32)
    assert [tuple(m.shape) for m in maps] == [
        (1, channels, 64 // stride, 128 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_stages_hold_all_weights(name: str) -> None:
    backbone = build_backbone(name)
    in_stages = {id(p) for stage in backbone.stages() for p in stage.parameters()}
    assert in_stages == {id(p) for p in backbone.parameters()}


STEMS = {  # backbone -> convolutions of its stem
    "mobilenet_v3_large": 3,
    "shufflenet_v2_x1_0": 1,
    "resnet50": 1,
    "repvgg_lite": 2,
    "timm:resnet18": 1,
    "timm:tf_efficientnet_lite0": 3,
    "timm:repvgg_a0": 2,
    "timm:convnext_atto": 1,
    "timm:ghostnetv2_100": 1,
}


@pytest.mark.parametrize("name", STEMS)
@torch.inference_mode()
def test_a_stage_ends_where_the_stride_does(name: str) -> None:
    """The stem first, then one stage for each of the strides 4, 8, 16 and 32."""
    backbone = build_backbone(name).eval()
    strides: dict[int, int] = {}
    for number, stage in enumerate(backbone.stages()):
        for layer in stage.modules():
            layer.register_forward_hook(partial(note_stride, strides, number))
    backbone(torch.zeros(1, 3, 64, 64))
    stem, *others = backbone.stages()
    assert len(others) == 4
    assert sum(isinstance(layer, torch.nn.Conv2d) for layer in stem.modules()) == STEMS[name]
    assert strides.pop(0) in (2, 4)
    assert strides == {number: 2 ** (number + 1) for number in strides} and max(strides) == 4


def note_stride(strides: dict[int, int], number: int, layer: torch.nn.Module, inputs: object, output: object) -> None:
    """Keep the stride of what a stage gives at the end."""
    if isinstance(output, torch.Tensor) and output.dim() == 4 and output.shape[2] > 1:
        strides[number] = 64 // output.shape[2]


@pytest.mark.parametrize("name", ["shufflenet_v2_x1_0", "repvgg_lite"])
def test_local_weights_are_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build_backbone(name)
    state = {**source.net.state_dict(), "fc.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "weights.pth")
    loaded = build_backbone(name, weights=tmp_path / "weights.pth")
    for key, value in loaded.net.state_dict().items():
        assert torch.equal(value, state[key])


class TestWeightsFile:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFileError):
            build_backbone("repvgg_lite", weights=tmp_path / "none.pth")

    @pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04" + bytes(50)])
    def test_damaged(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "weights.pth"
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=r"weights\.pth"):
            build_backbone("repvgg_lite", weights=path)

    @pytest.mark.parametrize(
        "content",
        [{}, {"conv1.0.weight": torch.zeros(1)}, [1, 2], torch.zeros(3), {"state_dict": 5}],
        ids=["empty", "other shape", "list", "tensor", "nested"],
    )
    def test_weights_of_another_net_are_refused(self, tmp_path: Path, content: object) -> None:
        path = tmp_path / "weights.pth"
        torch.save(content, path)
        with pytest.raises(ModelFileError, match=r"weights\.pth") as caught:
            build_backbone("shufflenet_v2_x1_0", weights=path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["none", "timm:none", "timm:vit_tiny_patch16_224"])
def test_unknown_name_is_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        build_backbone(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(8, 8, 1), (8, 12, 1), (8, 8, 2), (3, 16, 2)])
@torch.no_grad()
def test_fused_block_equals_its_training_form(inputs: int, outputs: int, stride: int) -> None:
    torch.manual_seed(0)
    block = RepVGGBlock(inputs, outputs, stride).eval()
    randomise_norms(block)
    x = torch.randn(2, inputs, 14, 10)
    torch.testing.assert_close(block.fuse()(x), block(x), atol=1e-4, rtol=1e-4)


def test_timm_backbones_take_pictures_as_their_weights_expect_them() -> None:
    backbone = build_backbone("timm:tf_efficientnet_lite0")
    assert (backbone.image_mean, backbone.image_std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_dense_backbones_multiply_the_bytes_of_a_picture() -> None:
    dense, published = build_backbone("repvgg_lite"), build_backbone("mobilenet_v2")
    assert (dense.image_mean, dense.image_std) == ((0, 0, 0), (1, 1, 1))
    assert (published.image_mean, published.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("name", ["repvgg_lite", "repvgg_deep", "repvgg_wide"])
@torch.no_grad()
def test_fused_backbone_is_a_stack_of_plain_convolutions(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name).eval()
    x = torch.randn(1, 3, 64, 64)
    before = backbone(x)
    backbone = fused(backbone)
    kinds = {type(m).__name__ for m in backbone.modules() if not list(m.children())}
    assert kinds == {"Conv2d", "ReLU"}
    for one, other in zip(before, backbone(x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("module", ["export.graph", "prune.costs", "prune.groups", "model.fusing"])
def test_no_other_module_names_a_backbone(module: str) -> None:
    """Special features of a backbone are declared in its own module, so that adding one changes two files."""
    text = Path(importlib.import_module(f"edge_mrcnn.{module}").__file__ or "").read_text()
    assert_names_no_backbone(text)


def test_quantize_names_no_backbone() -> None:
    for path in Path(quantize.__file__).parent.glob("*.py"):
        assert_names_no_backbone(path.read_text())


def assert_names_no_backbone(text: str) -> None:
    families = ("mobilenet", "shufflenet", "resnet", "repvgg", "invertedresidual", "efficientnet")
    code = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    code = re.sub(r"#.*", "", code)
    assert [name for name in families if name in code.lower()] == []


@pytest.mark.parametrize(("name", "pixels"), [("repvgg_lite", 143), ("repvgg_deep", 303)])
def test_receptive_field_of_the_coarsest_map(name: str, pixels: int) -> None:
    backbone = build_backbone(name).eval()
    for parameter in backbone.parameters():
        parameter.data.abs_()  # so that no path cancels another
    picture = torch.ones(1, 3, 640, 640, requires_grad=True)
    backbone(picture)[-1][0, :, 10, 10].sum().backward()
    rows = torch.nonzero(picture.grad.abs().sum((0, 1, 3)))
    assert int(rows.max() - rows.min()) + 1 == pixels

"""The deploy graph gives the detections of torchvision's own inference."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from torchvision import ops  # noqa: E402
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads  # noqa: E402

from edge_mrcnn.config import ModelConfig, preset  # noqa: E402
from edge_mrcnn.export import operators  # noqa: E402
from edge_mrcnn.export.graph import DeployGraph  # noqa: E402


def pictures(size_hw: tuple[int, int]) -> list[torch.Tensor]:
    """Noise, noise that fades to the right, and gray: (1, H, W, 3) uint8."""
    generator = torch.Generator().manual_seed(5)
    noise = torch.randint(0, 256, (1, *size_hw, 3), dtype=torch.uint8, generator=generator)
    faded = (noise * torch.linspace(0, 1, size_hw[1])[:, None]).to(torch.uint8)
    return [noise, faded, torch.full_like(noise, 128)]


def find_unpasted(model: torch.nn.Module, picture: torch.Tensor) -> dict[str, torch.Tensor]:
    """torchvision's own inference, without its last step: masks stay M x M."""
    batch, _ = model.transform(picture.permute(0, 3, 1, 2))
    features = model.backbone(batch.tensors)
    proposals, _ = model.rpn(batch, features)
    (found,), _ = model.roi_heads(features, proposals, batch.image_sizes)
    return found


def assert_same(model: torch.nn.Module, graph: DeployGraph, picture: torch.Tensor) -> int:
    """Compare both on one picture; the number of detections."""
    with torch.inference_mode():
        expected = find_unpasted(model, picture)
        boxes, scores, labels, masks = graph(picture)
    assert len(scores) == len(expected["scores"])
    assert torch.equal(labels, expected["labels"] - 1)
    torch.testing.assert_close(boxes, expected["boxes"], atol=1e-3, rtol=0)
    torch.testing.assert_close(scores, expected["scores"], atol=1e-5, rtol=0)
    torch.testing.assert_close(masks, expected["masks"][:, 0], atol=1e-4, rtol=0)
    return len(scores)


@pytest.mark.parametrize("classes", [1, 2, 40])
@pytest.mark.parametrize("agnostic", [True, False], ids=["agnostic", "per class"])
def test_equals_torchvision(toy_config: ModelConfig, make_lively: Callable, classes: int, agnostic: bool) -> None:
    config = toy_config.updated(class_agnostic_boxes=agnostic, max_detections=12, proposals=24)
    model = make_lively(config, classes)
    graph = DeployGraph(model, config)
    assert all(assert_same(model, graph, picture) > 0 for picture in pictures(config.image_size_hw)[:2])


@pytest.mark.parametrize(
    "config",
    [
        preset("nano").updated(image_size_hw=(64, 128)),
        preset("small").updated(image_size_hw=(128, 64), backbone="shufflenet_v2_x1_0_leaky"),
        preset("resnet50").updated(image_size_hw=(64, 128), proposals=50),
        preset("nano").updated(image_size_hw=(64, 64), backbone="mobilenet_v3_small", max_detections=1),
        preset("nano").updated(image_size_hw=(64, 64), backbone="mobilenet_v3_small", mask_levels=0),
        preset("nano").updated(image_size_hw=(64, 64), backbone="mobilenet_v3_small", mask_levels=2, roi_samples=2),
        preset("nano").updated(image_size_hw=(64, 64), backbone="mobilenet_v3_small", proposals=1, iou_threshold=0.9),
    ],
    ids=["nano", "small", "resnet50", "one detection", "all mask levels", "two mask levels", "one proposal"],
)
def test_presets_equal_torchvision(make_lively: Callable, config: ModelConfig) -> None:
    model = make_lively(config, 3)
    graph = DeployGraph(model, config)
    for picture in pictures(config.image_size_hw):
        assert_same(model, graph, picture)


@pytest.mark.parametrize("static", [False, True], ids=["live rows", "static rows"])
@pytest.mark.parametrize("agnostic", [True, False], ids=["agnostic", "per class"])
def test_batch_finds_what_each_image_alone_finds(
    toy_config: ModelConfig, make_lively: Callable, agnostic: bool, static: bool
) -> None:
    config = toy_config.updated(class_agnostic_boxes=agnostic, score_threshold=0.3, max_detections=14)
    model = make_lively(config, 2)
    images = pictures(config.image_size_hw)
    alone, together = DeployGraph(model, config), DeployGraph(model, config, batch=3, static=static)
    with torch.inference_mode():
        *rows, owners = (*together(torch.cat(images)), together.image_of_row)[:5]
        counts = []
        for index, image in enumerate(images):
            expected = alone(image)
            own = (owners == index) & (rows[1] > 0)
            counts.append(len(expected[1]))
            for values, right in zip(rows, expected, strict=True):
                torch.testing.assert_close(values[own], right, atol=1e-4, rtol=1e-4)
    assert len(set(counts)) > 1 and (not static or len(rows[0]) == 3 * 14)


def test_norm_in_the_mask_head_is_folded_away(toy_config: ModelConfig, make_lively: Callable) -> None:
    model = make_lively(toy_config, 2)
    head = MaskRCNNHeads(16, (16, 16), 1, norm_layer=torch.nn.BatchNorm2d).eval()
    for layer in head.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    model.roi_heads.mask_head = head
    graph = DeployGraph(model, toy_config)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in graph.mask_head.modules())
    assert assert_same(model, graph, pictures(toy_config.image_size_hw)[0]) > 0


def test_no_detections_give_masks_without_rows(toy_config: ModelConfig, make_lively: Callable) -> None:
    config = toy_config.updated(score_threshold=0.9999999)
    model = make_lively(config, 2)
    graph = DeployGraph(model, config)
    assert assert_same(model, graph, pictures(config.image_size_hw)[0]) == 0
    assert graph(pictures(config.image_size_hw)[0])[3].shape == (0, 28, 28)


def test_threshold_zero_is_exact_too(toy_config: ModelConfig, make_lively: Callable) -> None:
    config = toy_config.updated(score_threshold=0.0, max_detections=100)
    model = make_lively(config, 3)
    assert assert_same(model, DeployGraph(model, config), pictures(config.image_size_hw)[0]) > 6


def test_graph_leaves_the_model_as_it_was(toy_config: ModelConfig, make_lively: Callable) -> None:
    model = make_lively(toy_config, 2).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    DeployGraph(model, toy_config)
    assert model.training and all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class TestOperators:
    def test_nms_is_torchvisions_with_padding(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for _ in range(50):
            low = torch.rand(30, 2, generator=generator) * 50
            boxes = torch.cat([low, low + torch.rand(30, 2, generator=generator) * 30], 1)
            scores = torch.rand(30, generator=generator).sort(descending=True).values
            kept, count = operators.nms(boxes, scores, 0.4, 12)
            expected = ops.nms(boxes, scores, 0.4)[:12]
            assert count == len(expected) and torch.equal(kept[:count], expected)
            assert kept.shape == (12,) and not kept[count:].any()

    def test_nms_of_unused_rows_keeps_nothing(self) -> None:
        kept, count = operators.nms(torch.rand(5, 4), torch.zeros(5), 0.5, 3)
        assert count == 0 and kept.tolist() == [0, 0, 0]

    @pytest.mark.parametrize("levels", [1, 2, 3])
    def test_roi_align_is_torchvisions_multiscale_pool(self, levels: int) -> None:
        torch.manual_seed(0)
        maps = {str(i): torch.randn(1, 4, 16 // 2**i, 24 // 2**i) for i in range(levels)}
        low = torch.rand(40, 2) * 120
        boxes = torch.cat([low, low + torch.rand(40, 2) * 100], 1)
        pool = ops.MultiScaleRoIAlign(list(maps), 7, 2, canonical_scale=60, canonical_level=4)
        expected = pool(maps, [boxes], [(128, 192)])
        bounds = operators.level_bounds(levels, 3, 60, 4)
        scales = [1 / 8, 1 / 16, 1 / 32][:levels]
        found = operators.multiscale_roi_align(list(maps.values()), boxes, scales, bounds, 7, 2)
        torch.testing.assert_close(found, expected)

    def test_roi_align_pools_each_box_from_its_own_image(self) -> None:
        torch.manual_seed(0)
        maps, boxes = [torch.randn(2, 4, 16, 24), torch.randn(2, 4, 8, 12)], torch.tensor([[4.0, 4, 90, 60]] * 3)
        settings = [1 / 8, 1 / 16], operators.level_bounds(2, 3, 60, 4), 7, 2
        found = operators.multiscale_roi_align(maps, boxes, *settings, torch.tensor([0, 1, 0]))
        for row, image in ((0, 0), (1, 1), (2, 0)):
            alone = operators.multiscale_roi_align([m[image : image + 1] for m in maps], boxes[:1], *settings)
            torch.testing.assert_close(found[row : row + 1], alone)

    @pytest.mark.parametrize("name", ["nms", "multiscale_roi_align"])
    def test_shapes_under_tracing_are_the_real_ones(self, name: str) -> None:
        maps, boxes = [torch.rand(1, 2, 8, 8), torch.rand(1, 2, 4, 4)], torch.rand(9, 4)
        arguments = {
            "nms": (boxes, torch.rand(9), 0.5, 4),
            "multiscale_roi_align": (maps, boxes, [0.5, 0.25], [9.0], 7, 2),
        }
        operator = getattr(torch.ops.edge_mrcnn, name).default
        torch.library.opcheck(operator, arguments[name], test_utils=("test_schema", "test_faketensor"))

"""Fast training operators equal torchvision's own ones."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from torchvision.ops import MultiScaleRoIAlign  # noqa: E402

from edge_mrcnn.config import ModelConfig  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402
from edge_mrcnn.model.region_pool import RegionPool  # noqa: E402
from edge_mrcnn.train.losses import compute_losses  # noqa: E402

SIZE = (64, 128)


def make_maps(levels: int, channels: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        str(level): torch.randn(2, channels, SIZE[0] >> 3 + level, SIZE[1] >> 3 + level, generator=generator)
        for level in range(levels)
    }


def make_boxes(count: int) -> torch.Tensor:
    """Boxes of all sizes inside the image, the last of them all of it and one without area."""
    generator = torch.Generator().manual_seed(count)
    limit = torch.tensor([SIZE[1], SIZE[0]] * 2)
    corner = torch.rand(count, 2, generator=generator) * limit[:2]
    side = torch.rand(count, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + side], 1).minimum(limit)
    return torch.cat([boxes, limit * torch.tensor([[0, 0, 1, 1]]), torch.tensor([[9.0, 9, 9, 9]])])


def pool_both(pool: MultiScaleRoIAlign, boxes: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Output and gradient of each map, by torchvision's pool and by ours."""
    results = []
    for layer in (pool, RegionPool.like(pool)):
        maps = {name: m.clone().requires_grad_() for name, m in make_maps(len(pool.featmap_names)).items()}
        pooled = layer(maps, boxes, [SIZE, SIZE])
        (pooled * torch.linspace(-1, 1, pooled.numel()).reshape(pooled.shape)).sum().backward()
        results.append([pooled.detach(), *(m.grad for m in maps.values())])
    return results


class TestRegionPool:
    @pytest.mark.parametrize("levels", [1, 2, 3])
    @pytest.mark.parametrize(("size", "samples"), [(7, 2), (14, 2), (3, 1)])
    def test_pools_and_teaches_what_torchvision_does(self, levels: int, size: int, samples: int) -> None:
        names = [str(level) for level in range(levels)]
        pool = MultiScaleRoIAlign(names, size, samples, canonical_scale=40, canonical_level=4)
        expected, found = pool_both(pool, [make_boxes(20), make_boxes(7)])
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, atol=2e-5, rtol=1e-5)

    @pytest.mark.parametrize("counts", [(0, 3), (0, 0)])
    def test_image_without_regions_has_no_rows(self, counts: tuple[int, int]) -> None:
        pool = RegionPool(["0", "1"], 7, 2, canonical_scale=40)
        maps = {name: m.requires_grad_() for name, m in make_maps(2).items()}
        boxes = [make_boxes(5)[:count] for count in counts]
        pooled = pool(maps, boxes, [SIZE, SIZE])
        assert pooled.shape == (sum(counts), 5, 7, 7)
        pooled.sum().backward()
        assert maps["0"].grad.shape == maps["0"].shape

    def test_sums_in_float32_and_returns_the_type_of_the_maps(self) -> None:
        pool = RegionPool(["0", "1"], 7, 2, canonical_scale=40)
        maps = make_maps(2)
        exact = pool(maps, [make_boxes(9)] * 2, [SIZE, SIZE])
        rounded = pool({k: m.bfloat16() for k, m in maps.items()}, [make_boxes(9)] * 2, [SIZE, SIZE])
        assert rounded.dtype == torch.bfloat16
        torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0.02)


def make_batch(objects: tuple[int, ...]) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Images with so many rectangles each."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (len(objects), 3, *SIZE), dtype=torch.uint8, generator=generator)
    targets = []
    for count in objects:
        boxes = torch.tensor([[8.0 + 20 * i, 6, 40 + 20 * i, 50] for i in range(count)]).reshape(-1, 4)
        masks = torch.zeros(count, *SIZE, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        targets.append({"boxes": boxes, "labels": 1 + torch.arange(count) % 2, "masks": masks})
    return images, targets


@pytest.mark.parametrize("objects", [(2, 1), (0, 3), (0, 0)])
@pytest.mark.parametrize("agnostic", [True, False])
def test_losses_and_gradients_are_torchvisions(
    toy_config: ModelConfig, objects: tuple[int, ...], agnostic: bool
) -> None:
    torch.manual_seed(0)
    model = build_model(toy_config.updated(class_agnostic_boxes=agnostic), 2).train()
    images, targets = make_batch(objects)
    results = []
    for measure in (lambda: model(images, targets), lambda: compute_losses(model, images, targets)[0]):
        torch.manual_seed(3)  # of the sampled anchors and regions
        model.zero_grad()
        losses = measure()
        sum(losses.values()).backward()
        results.append((losses, [p.grad.clone() for p in model.parameters()]))
    (expected, gradients), (found, others) = results
    assert found.keys() == expected.keys() and len(gradients) == len(others)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    for one, other in zip(gradients, others, strict=True):
        torch.testing.assert_close(other, one)


def test_regions_are_handed_out_with_their_losses(toy_config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = build_model(toy_config, 2).train()
    _, regions = compute_losses(model, *make_batch((2, 1)))
    count, objects = len(regions.labels), len(regions.object_labels)
    assert sum(map(len, regions.boxes)) == count == len(regions.features) == len(regions.class_logits)
    assert sum(map(len, regions.object_boxes)) == objects == len(regions.mask_logits)
    assert torch.equal(regions.labels[regions.labels > 0], regions.object_labels)

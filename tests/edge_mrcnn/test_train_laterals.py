"""Lateral convolutions of an exchanged backbone, fitted in closed form."""

from __future__ import annotations

import copy

import pytest
import torch

from edge_mrcnn.model.checkpoint import load_checkpoint
from edge_mrcnn.train.laterals import Regression, fit_laterals


@pytest.fixture
def model(toy_checkpoint) -> torch.nn.Module:
    return load_checkpoint(toy_checkpoint).model.eval()


@pytest.fixture
def batches() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (6, 1, 3, 12, 12), generator=generator).float()
    smooth = torch.nn.functional.interpolate(coarse[:, 0], (96, 96), mode="bilinear")
    return list(smooth.to(torch.uint8)[:, None])


def test_regression_finds_the_line() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator) + 2
    true = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])
    regression = Regression()
    regression.add(x[:100], x[:100] @ true.T + 7)
    regression.add(x[100:], x[100:] @ true.T + 7)
    weights, intercept = regression.solve()
    torch.testing.assert_close(weights.float(), true, rtol=0, atol=0.01)
    torch.testing.assert_close(intercept.float(), torch.full((2,), 7.0), rtol=0, atol=0.05)
    assert regression.explained() > 0.999


def test_mixed_channels_are_unmixed(model, batches) -> None:
    """A backbone whose channels are the old ones, turned and shifted, loses nothing."""
    student = copy.deepcopy(model)
    student.backbone.body = TurnedBody(model.backbone.body)
    for block in student.backbone.fpn.inner_blocks:
        torch.nn.init.normal_(block[0].weight)
    explained = fit_laterals(student, model, batches)
    assert min(explained) > 0.98
    images, _ = model.transform(batches[0])
    for own, theirs in zip(
        student.backbone(images.tensors).values(), model.backbone(images.tensors).values(), strict=True
    ):
        assert (own - theirs).square().mean() < 0.02 * theirs.var()


def test_norms_hold_the_statistics_of_what_they_get(model, batches) -> None:
    """Training, which uses the statistics of the batch, then begins with the same outputs."""
    student = copy.deepcopy(model)
    student.backbone.body = TurnedBody(model.backbone.body)
    fit_laterals(student, model, batches)
    images, _ = student.transform(torch.cat(batches))
    for block, maps in zip(student.backbone.fpn.inner_blocks, student.backbone.body(images.tensors), strict=True):
        values = block[0](maps).detach().transpose(0, 1).flatten(1)
        torch.testing.assert_close(block[1].running_mean, values.mean(1), rtol=0.01, atol=0.01)
        torch.testing.assert_close(block[1].running_var, values.var(1), rtol=0.02, atol=1e-4)


class TurnedBody(torch.nn.Module):
    """The maps of a backbone in an orthogonal basis of their channels, plus 1."""

    def __init__(self, body: torch.nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        turned = []
        for maps in self.body(x):
            basis, _ = torch.linalg.qr(torch.randn(maps.shape[1], maps.shape[1], generator=generator))
            turned.append(torch.einsum("kc,bchw->bkhw", basis, maps) + 1)
        return turned

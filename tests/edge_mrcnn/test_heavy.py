"""Warnings and messages about a heavy model before its export."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="pip install 'edge-mrcnn[train]'")

from edge_mrcnn.config import ModelConfig  # noqa: E402
from edge_mrcnn.export.cost import measure_cost  # noqa: E402
from edge_mrcnn.export.heavy import describe_effort  # noqa: E402
from edge_mrcnn.model.checkpoint import Checkpoint  # noqa: E402
from edge_mrcnn.model.mask_rcnn import build_model  # noqa: E402


@pytest.fixture
def heavy(toy_config: ModelConfig) -> Checkpoint:
    """A small backbone under heads of the classic size, which are most of the work of a ResNet-50."""
    config = replace(toy_config, fpn_channels=256, mask_hidden=(256,) * 4, proposals=1000, max_detections=100)
    return Checkpoint(model=build_model(config, 2).eval(), config=config, classes=("a", "b"), category_ids=(1, 2))


def test_message_states_the_cost_and_how_to_reduce_it(heavy: Checkpoint) -> None:
    effort, advice = describe_effort(heavy)
    work = measure_cost(heavy.model, heavy.config).macs
    left = measure_cost(heavy.model, heavy.config.updated(proposals=100, max_detections=20)).macs
    assert f"{work / 1e9:.0f} GMAC per image of 128x64 with 1000 proposals and 100 detections" in effort
    assert f"--proposals 100 --max-det 20 would reduce this to {left / 1e9:.0f} GMAC" in advice
    assert left < 0.5 * work


def test_no_advice_if_it_gains_little(heavy: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    followed = replace(heavy, config=heavy.config.updated(proposals=100, max_detections=20))
    assert describe_effort(followed) == []
    monkeypatch.setattr("edge_mrcnn.export.heavy.HEAVY_MACS", 1_000_000)
    assert len(describe_effort(followed)) == 1


def test_light_model_is_written_without_a_message(toy_config: ModelConfig, make_lively: Callable) -> None:
    light = Checkpoint(model=make_lively(toy_config, 2), config=toy_config, classes=("a", "b"), category_ids=(1, 2))
    assert describe_effort(light) == []

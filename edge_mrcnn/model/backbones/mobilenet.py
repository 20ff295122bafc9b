"""MobileNetV2 (arXiv 1801.04381) and MobileNetV3 (arXiv 1905.02244) from torchvision."""

from __future__ import annotations

import torchvision
from torchvision.models import MobileNetV2, MobileNetV3

from edge_mrcnn.model.backbones.staged import StagedBackbone


def _features(
    net: MobileNetV2 | MobileNetV3, last: int, outputs: tuple[int, ...], channels: tuple[int, ...]
) -> StagedBackbone:
    """Keep `features.0` to `features.<last>`; the classifier and the last 1x1 expansion are dropped."""
    net.features = net.features[: last + 1]
    del net.classifier
    if hasattr(net, "avgpool"):
        del net.avgpool
    return StagedBackbone(net, [f"features.{i}" for i in range(last + 1)], outputs, channels)


def mobilenet_v3_large(pretrained: bool) -> StagedBackbone:
    """Up to the last bottleneck: 2.97 M parameters."""
    net = torchvision.models.mobilenet_v3_large(weights="IMAGENET1K_V2" if pretrained else None)
    return _features(net, 15, (6, 12, 15), (40, 112, 160))


def mobilenet_v3_small(pretrained: bool) -> StagedBackbone:
    """Up to the last bottleneck: 0.93 M parameters."""
    net = torchvision.models.mobilenet_v3_small(weights="IMAGENET1K_V1" if pretrained else None)
    return _features(net, 11, (3, 8, 11), (24, 48, 96))


def mobilenet_v2(pretrained: bool) -> StagedBackbone:
    """Up to the last bottleneck: 1.81 M parameters."""
    net = torchvision.models.mobilenet_v2(weights="IMAGENET1K_V2" if pretrained else None)
    return _features(net, 17, (6, 13, 17), (32, 96, 320))

"""Backbones by name: from an image to three feature maps at strides 8, 16 and 32.

A backbone is an `nn.Module` whose `forward` returns a list of maps, finest first, and which states their `channels` and
`strides` (detectron2's ShapeSpec).
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

from torch import Tensor, nn

from edge_mrcnn.config import IMAGENET_MEAN, IMAGENET_STD
from runtimes.errors import MissingFileError, ModelFileError, UsageError

BACKBONES = {  # name -> "module:function"; the function takes `pretrained: bool`
    "mobilenet_v3_large": "edge_mrcnn.model.backbones.mobilenet:mobilenet_v3_large",
    "mobilenet_v3_small": "edge_mrcnn.model.backbones.mobilenet:mobilenet_v3_small",
    "mobilenet_v2": "edge_mrcnn.model.backbones.mobilenet:mobilenet_v2",
    "shufflenet_v2_x1_0": "edge_mrcnn.model.backbones.shufflenet:shufflenet_v2_x1_0",
    "shufflenet_v2_x1_0_leaky": "edge_mrcnn.model.backbones.shufflenet:shufflenet_v2_x1_0_leaky",
    "resnet18": "edge_mrcnn.model.backbones.resnet:resnet18",
    "resnet50": "edge_mrcnn.model.backbones.resnet:resnet50",
    "resnet101": "edge_mrcnn.model.backbones.resnet:resnet101",
    "repvgg_lite": "edge_mrcnn.model.backbones.repvgg:repvgg_lite",
    "repvgg_deep": "edge_mrcnn.model.backbones.repvgg:repvgg_deep",
    "repvgg_wide": "edge_mrcnn.model.backbones.repvgg:repvgg_wide",
}


class Backbone(nn.Module):
    """Interface of a backbone for the feature pyramid; `forward` returns the maps."""

    image_mean: tuple[float, float, float] = IMAGENET_MEAN
    image_std: tuple[float, float, float] = IMAGENET_STD
    """Mean and standard deviation of RGB in [0, 1] for normalising images, as in its published weights."""

    float_layers: tuple[str, ...] = ()
    """First parts of `net` that TFLite's INT8 keeps in float: few channels with unequal ranges, whose rounding affects
    all later layers. The first convolution is integer if mean and deviation are 0 and 1, because it then multiplies
    bytes."""

    net: nn.Module
    """The published model, which keeps its own state-dict keys."""
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def stages(self) -> list[nn.ModuleList]:
        """All parts in order of depth, for freezing: the stem, then the stages up to strides 4, 8, 16 and 32.

        The stem ends with the maps of stride 2, or with the pooling after them. A stage may be empty.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) float32 to maps (N, channels[i], H / strides[i], W / strides[i])."""
        raise NotImplementedError


def build_backbone(name: str, *, pretrained: bool = False, weights: str | Path | None = None) -> Backbone:
    """Build a backbone by name.

    Args:
        name: A key of `BACKBONES`, or "timm:<model>" for any timm model with `features_only`.
        pretrained: Download the ImageNet weights of torchvision or timm.
        weights: A local state dict instead; keys of a classifier without counterpart are ignored.

    Raises:
        UsageError: If the name is unknown.
        MissingFileError, ModelFileError: If the weights file is missing or does not fit.
    """
    if name.startswith("timm:"):
        from edge_mrcnn.model.backbones.timm_features import timm_backbone

        backbone: Backbone = timm_backbone(name.removeprefix("timm:"), pretrained)
    elif name in BACKBONES:
        backbone = pkgutil.resolve_name(BACKBONES[name])(pretrained)
    else:
        raise UsageError(f"no backbone {name!r}; there are {', '.join(BACKBONES)} and timm:<name>")
    if weights is not None:
        load_backbone_weights(backbone, weights)
    return backbone


def load_backbone_weights(backbone: Backbone, path: str | Path) -> None:
    """Load a plain state dict; classifier keys without counterpart are ignored, missing keys are an error."""
    import torch

    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such weights file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelFileError(f"{path}: expected a state dict saved by torch.save ({type(error).__name__})") from error
    if not isinstance(state, dict):
        raise ModelFileError(f"{path}: expected a state dict, got {type(state).__name__}")
    try:
        missing, _ = backbone.net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ModelFileError(
            f"{path}: the weights do not fit the backbone: {str(error).splitlines()[1].strip()}"
        ) from error
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise ModelFileError(f"{path}: {len(missing)} weights of the backbone are missing, such as {missing[0]}")

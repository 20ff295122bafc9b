"""What one training step is, for Lightning's loop."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.model.region_pool import RegionPool
from runtimes.errors import DataError

Batch = tuple[Tensor, list[dict[str, Tensor]]]


class MaskRCNNTask(lightning.LightningModule):
    """Torchvision's losses, SGD or AdamW, linear warm-up and cosine decay."""

    def __init__(self, model: MaskRCNN, config: TrainConfig, total_steps: int) -> None:
        super().__init__()
        self.model = model.train()  # Lightning trains a module in the mode in which it finds it
        self.config = config
        self.total_steps = max(1, total_steps)
        _freeze(model, config.freeze_stages)
        model.roi_heads.fg_bg_sampler.batch_size_per_image = config.rois
        model.roi_heads.box_roi_pool = RegionPool.like(model.roi_heads.box_roi_pool)
        model.roi_heads.mask_roi_pool = RegionPool.like(model.roi_heads.mask_roi_pool)
        for predictor in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
            predictor.register_forward_hook(_to_float32)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum of the five losses of Mask R-CNN on one batch."""
        images, targets = batch
        losses = self.model(images, targets)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        if not torch.isfinite(loss):
            raise DataError(
                f"the loss is {loss.item()} at step {self.global_step}: "
                "lower --lr, or look for broken boxes with the images of this batch"
            )
        named = {f"loss/{k.removeprefix('loss_')}": v for k, v in losses.items()} | {"loss/total": loss}
        self.log_dict(named, on_step=True, on_epoch=True, batch_size=len(images))
        return loss

    def on_train_epoch_start(self) -> None:
        """Frozen parts keep their BatchNorm statistics; what is sampled depends on seed, epoch and process alone."""
        torch.manual_seed(self.config.seed * 100_003 + self.current_epoch * self.trainer.world_size + self.global_rank)
        if self.config.freeze_norm:
            set_norm_eval(self.model.backbone.body)
        for stage in _stages(self.model)[: _frozen_count(self.model, self.config.freeze_stages)]:
            stage.eval()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Three groups: decayed weights, undecayed ones, and the backbone with its own rate."""
        optimizer = build_optimizer(self.model, self.config)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, self.config.warmup_steps, self.total_steps)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _to_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Boxes are decoded in the type of their deltas, and bf16 knows no pixel between 256 and 258."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return type(outputs)(_to_float32(module, inputs, output) for output in outputs)


def learning_rate_factor(step: int, warmup: int, total: int) -> float:
    """Linear from 0.01 to 1 over `warmup` steps, then half a cosine down to 0.01 at `total`."""
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(model: MaskRCNN, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the parameters that are trained."""
    base = config.lr or (0.02 * config.batch / 16 if config.optimizer == "sgd" else 5e-4)
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("backbone.body."), parameter.dim() > 1), []).append(parameter)
    parameters = [
        {
            "params": members,
            "lr": base * (config.backbone_lr_factor if in_backbone else 1),
            "weight_decay": config.weight_decay if decayed else 0.0,
        }
        for (in_backbone, decayed), members in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=base, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(parameters, lr=base)


def set_norm_eval(module: nn.Module) -> None:
    """Use, and keep, the running statistics of every BatchNorm inside `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()


def _stages(model: MaskRCNN) -> list[nn.Module]:
    body = model.backbone.body
    return body.stages() if hasattr(body, "stages") else list(body.children())


def _frozen_count(model: MaskRCNN, freeze_stages: int) -> int:
    return len(_stages(model)) if freeze_stages < 0 else freeze_stages


def _freeze(model: MaskRCNN, freeze_stages: int) -> None:
    for stage in _stages(model)[: _frozen_count(model, freeze_stages)]:
        stage.requires_grad_(False)

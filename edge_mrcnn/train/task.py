"""One training step, for Lightning's loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler, Matcher

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.model.backbones import Backbone
from edge_mrcnn.model.backbones.resnet import stages_of_body
from edge_mrcnn.model.region_pool import RegionPool
from edge_mrcnn.train.distillation import Teacher, distillation_losses, make_adapter
from edge_mrcnn.train.losses import compute_losses
from runtimes.errors import DataError

Batch = tuple[Tensor, list[dict[str, Tensor]]]

CHECK_EVERY = 10
"""Steps between two checks of the loss on a GPU."""
ROI_SAMPLES = 2
"""Minimum RoIAlign samples per bin and axis in training; an exported graph may use fewer."""


class MaskRCNNTask(lightning.LightningModule):
    """Torchvision's losses, those of a teacher if there is one, and the optimizer."""

    not_finite: Tensor

    def __init__(
        self, model: MaskRCNN, config: TrainConfig, total_steps: int, *, teacher: Teacher | None = None
    ) -> None:
        super().__init__()
        self.model = model.train()  # Lightning trains a module in its current mode
        self.config = config
        self.total_steps = max(1, total_steps)
        self.data_sha256 = ""
        """Hash of the data; stored in the resume file."""
        self.teacher = teacher
        adapts = bool(config.distill_maps or config.distill_features)
        self.adapter = make_adapter(model, teacher) if teacher and adapts else nn.Identity()
        self.register_buffer("not_finite", torch.zeros((), dtype=torch.bool), persistent=False)
        for stage in frozen_stages(model, config):
            stage.requires_grad_(False)
        apply_sampling(model, config)
        for name in ("box_roi_pool", "mask_roi_pool"):
            pool = getattr(model.roi_heads, name)
            setattr(model.roi_heads, name, RegionPool.like(pool, fewest_samples=ROI_SAMPLES))
        for predictor in (model.rpn.head, model.roi_heads.box_predictor, model.roi_heads.mask_predictor):
            predictor.register_forward_hook(_to_float32)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The sum of all losses on one batch."""
        images, targets = batch
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        losses, regions = compute_losses(self.model, images, targets)
        if self.teacher is not None:
            teacher_outputs = self.teacher.outputs_for(images, regions)
            losses |= distillation_losses(regions, teacher_outputs, self.adapter, self.config)
        loss = torch.stack([value.float() for value in losses.values()]).sum()
        self.not_finite |= ~torch.isfinite(loss.detach())
        named = {f"loss/{k.removeprefix('loss_')}": v.detach() for k, v in losses.items()}
        self._log_losses({**named, "loss/total": loss.detach()}, len(images))
        return loss

    def _log_losses(self, losses: dict[str, Tensor], count: int) -> None:
        """Those of a step are the first process's; those of an epoch are the mean over all processes."""
        steps = {f"{name}_step": value for name, value in losses.items()}
        epochs = {f"{name}_epoch": value for name, value in losses.items()}
        self.log_dict(steps, on_step=True, on_epoch=False, batch_size=count)
        self.log_dict(epochs, on_step=False, on_epoch=True, batch_size=count, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the hash of the data, so that a resume on other data is refused."""
        checkpoint["data_sha256"] = self.data_sha256

    def on_train_batch_end(self, outputs: Any, batch: Batch, index: int) -> None:
        """Check the loss on the device from time to time, because each check waits for the device.

        Raises:
            DataError: If a loss was not finite since the last check.
        """
        step = index + 1
        is_last = self.trainer.is_last_batch or self.global_step >= self.total_steps
        if (step % CHECK_EVERY == 0 or self.device.type == "cpu" or is_last) and self.not_finite:
            raise DataError(
                f"the loss is not finite at step {self.global_step} or shortly before: lower --lr, or check the boxes "
                "with `edge-mrcnn data check`"
            )

    def on_train_epoch_start(self) -> None:
        """Keep the BatchNorm statistics of frozen parts; sampling depends only on seed, epoch and process."""
        torch.manual_seed(self.config.seed * 100_003 + self.current_epoch * self.trainer.world_size + self.global_rank)
        if self.config.freeze_norm:
            set_norm_eval(self.model.backbone.body)
        for stage in frozen_stages(self.model, self.config):
            stage.eval()

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Parameter groups: with decay, without decay, the backbone with its own learning rate, and the adapters to a
        teacher."""
        optimizer = build_optimizer(self.model, self.config)
        if adapters := list(self.adapter.parameters()):
            optimizer.add_param_group({"params": adapters, "lr": max(g["lr"] for g in optimizer.param_groups)})
        config = self.config
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(step, config, self.total_steps),
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _to_float32(module: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Decode boxes in the type of their deltas, because bf16 cannot represent the pixels between 256 and 258."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return type(outputs)(_to_float32(module, inputs, output) for output in outputs)


def learning_rate_factor(step: int, config: TrainConfig, total: int) -> float:
    """Share of the peak learning rate at a step.

    Linear from `warmup_factor` to 1 during the warm-up, then half a cosine down to 0.01 at `total`, or `gamma` to the
    power of the number of passed milestones.
    """
    if step < config.warmup_steps:
        return config.warmup_factor + (1 - config.warmup_factor) * step / config.warmup_steps
    if config.schedule == "step":
        passed = [milestone for milestone in config.milestones if step >= in_steps(milestone, total)]
        return float(config.gamma ** len(passed))
    progress = min(1.0, (step - config.warmup_steps) / max(1, total - config.warmup_steps))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


def in_steps(milestone: float, total: int) -> float:
    """A milestone as a step: a value up to 1 is a share of all steps."""
    return milestone * total if milestone <= 1 else milestone


def apply_sampling(model: MaskRCNN, config: TrainConfig) -> None:
    """Set the IoU thresholds and sample sizes of the two stages, in place."""
    rpn, heads = model.rpn, model.roi_heads
    rpn.fg_bg_sampler = BalancedPositiveNegativeSampler(config.rpn_batch, config.rpn_positive_fraction)
    rpn.proposal_matcher = Matcher(config.rpn_object_iou, config.rpn_background_iou, allow_low_quality_matches=True)
    heads.fg_bg_sampler = BalancedPositiveNegativeSampler(config.rois, config.roi_positive_fraction)
    heads.proposal_matcher = Matcher(config.roi_object_iou, config.roi_background_iou, allow_low_quality_matches=False)
    if config.train_proposals:
        rpn._post_nms_top_n["training"] = config.train_proposals
    if config.train_proposals_per_level:
        rpn._pre_nms_top_n["training"] = config.train_proposals_per_level


def build_optimizer(model: MaskRCNN, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the parameters that are trained."""
    base = config.lr or (0.02 * config.batch / 16 if config.optimizer == "sgd" else 5e-4)
    norms = set(parameters_of_norms(model))
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = config.weight_decay if parameter.dim() > 1 else config.bias_decay
        if parameter in norms:
            decay = config.norm_decay
        groups.setdefault((name.startswith("backbone.body."), decay), []).append(parameter)
    parameters = [
        {
            "params": members,
            "lr": base * (config.backbone_lr_factor if in_backbone else 1),
            "weight_decay": decay,
        }
        for (in_backbone, decay), members in groups.items()
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=base, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0
        )
    return torch.optim.AdamW(parameters, lr=base, betas=(config.momentum, 0.999))


def parameters_of_norms(model: nn.Module) -> Iterator[nn.Parameter]:
    """Weights and biases of every normalisation layer."""
    kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    for layer in model.modules():
        if isinstance(layer, kinds):
            yield from layer.parameters(recurse=False)


def set_norm_eval(module: nn.Module) -> None:
    """Use the running statistics of every norm inside `module`, SyncBatchNorm included, without updating them."""
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def frozen_stages(model: MaskRCNN, config: TrainConfig) -> list[nn.ModuleList]:
    """The frozen modules of the backbone."""
    body = model.backbone.body
    stages = body.stages() if isinstance(body, Backbone) else stages_of_body(body)
    count = config.freeze_stages or 0
    return stages if count < 0 else stages[:count]

"""The torch model as a runtime, so that a report is one loop over N runtimes."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch

from edge_mrcnn.model.checkpoint import Checkpoint, file_sha256, load_checkpoint
from edge_mrcnn.model.mask_rcnn import PAD_RGB
from edge_mrcnn.model.published import locate
from runtimes.base import RawOutputs, Runtime
from runtimes.errors import UsageError
from runtimes.model_card import ModelCard


def make_card(checkpoint: Checkpoint, *, sha256: str = "") -> ModelCard:
    """The model card of a checkpoint, as an exported file would have it."""
    config = checkpoint.config
    predictor = checkpoint.model.roi_heads.mask_predictor
    mask_size = checkpoint.model.roi_heads.mask_roi_pool.output_size[0] * predictor.conv5_mask.stride[0]
    body = checkpoint.model.backbone.body
    return ModelCard(
        name=config.name,
        classes=checkpoint.classes,
        category_ids=checkpoint.category_ids,
        input_size_hw=config.image_size_hw,
        pad_rgb=PAD_RGB,
        proposals=config.proposals,
        max_detections=config.max_detections,
        mask_size=mask_size,
        mask_offset=0.0 if config.roi_aligned else ModelCard.mask_offset,
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
        float_layers=tuple(f"pyramid.body.net.{name}" for name in getattr(body, "float_layers", ())),
        parameters=sum(p.numel() for p in checkpoint.model.parameters()),
        checkpoint_sha256=sha256,
        training=checkpoint.training,
    )


def pick_device(name: str) -> torch.device:
    """The torch device of a name; "auto" is CUDA if there is one.

    Raises:
        UsageError: If CUDA is requested but missing, or the name is unknown.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch finds no CUDA device; use --device cpu")
    return device


class TorchRuntime(Runtime):
    """A checkpoint run in FP32 by torchvision's own inference."""

    def __init__(self, checkpoint: Checkpoint, *, device: str = "auto", sha256: str = "") -> None:
        super().__init__(make_card(checkpoint, sha256=sha256))
        self.device = pick_device(device)
        self._model = checkpoint.model.to(self.device).eval()
        self._size = self.card.mask_size

    @torch.inference_mode()
    def run(self, tensor: np.ndarray) -> RawOutputs:
        """(1, H, W, 3) uint8 RGB to detections; masks are taken before they are pasted."""
        images = torch.from_numpy(tensor).to(self.device).permute(0, 3, 1, 2)
        model = self._model
        batch, _ = model.transform(images)
        features = model.backbone(batch.tensors)
        proposals, _ = model.rpn(batch, features)
        (found,), _ = model.roi_heads(features, proposals, batch.image_sizes)
        return RawOutputs(
            boxes=found["boxes"].cpu().numpy(),
            scores=found["scores"].cpu().numpy(),
            labels=found["labels"].cpu().numpy() - 1,
            masks=found["masks"][:, 0].cpu().numpy().reshape(-1, self._size, self._size),
        )

    @torch.inference_mode()
    def judge(self, tensor: np.ndarray, boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The model's outputs for given boxes, in place of its own proposals.

        Args:
            tensor: (1, H, W, 3) uint8 RGB.
            boxes: (N, 4) float32 xyxy in pixels of the tensor.
            labels: (N,) int64 from 0, the class of each box.

        Returns:
            (N,) float32, the probability of that class; (N, M, M) float32, the mask of that class in the box.
        """
        images = torch.from_numpy(tensor).to(self.device).permute(0, 3, 1, 2)
        model, heads = self._model, self._model.roi_heads
        batch, _ = model.transform(images)
        features = model.backbone(batch.tensors)
        given = [torch.from_numpy(boxes).to(self.device)]
        rows = torch.arange(len(boxes), device=self.device)
        classes = torch.from_numpy(labels).to(self.device) + 1
        pooled = heads.box_roi_pool(features, given, batch.image_sizes)
        logits, _ = heads.box_predictor(heads.box_head(pooled))
        scores = logits.softmax(1)[rows, classes]
        pooled = heads.mask_roi_pool(features, given, batch.image_sizes)
        masks = heads.mask_predictor(heads.mask_head(pooled))[rows, classes].sigmoid()
        return scores.cpu().numpy(), masks.cpu().numpy()

    def nudged(self, seed: int = 0) -> TorchRuntime:
        """The same model with each weight changed by about its last bit, to measure the effect of rounding alone."""
        other = copy.copy(self)
        other._model = copy.deepcopy(self._model)
        generator = torch.Generator(self.device).manual_seed(seed)
        with torch.no_grad():
            for weight in other._model.parameters():
                noise = torch.randn(weight.shape, generator=generator, device=self.device)
                weight.mul_(1 + torch.finfo(torch.float32).eps * noise)
        return other

    def describe(self) -> dict[str, str]:
        """The device, and FP32, because nothing here runs under autocast."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {"device": name, "precision": "fp32"}

    def close(self) -> None:
        """Does nothing: there is nothing to free besides the object; see `Runtime.close`."""
        super().close()


def load_reference(path: str | Path, device: str = "auto") -> TorchRuntime:
    """Open a checkpoint as a runtime.

    Raises:
        MissingFileError, ModelFileError: If it is missing or not ours.
        UsageError: If the device does not exist.
    """
    path = locate(path)
    return TorchRuntime(load_checkpoint(path), device=device, sha256=file_sha256(path))

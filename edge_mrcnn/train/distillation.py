"""Distillation: a larger teacher supervises a smaller student on the student's own sampled regions.

The teacher processes the same letterboxed images, resized if its input is larger, and the student's sampled regions, so
no matching is needed: region features (Mimicking, CVPR 2017, section 3.2), class probabilities (arXiv 1503.02531), box
regressions and masks. A backbone without published weights also learns from the teacher's whole pyramid (FitNets, arXiv
1412.6550).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN

from edge_mrcnn.config import TrainConfig
from edge_mrcnn.model.checkpoint import Checkpoint
from edge_mrcnn.model.class_rows import compare_classes
from edge_mrcnn.train.losses import Regions
from runtimes.errors import UsageError

TEMPERATURE = 2.0
"""Temperature of both class distributions, so that the teacher's less likely classes count as well."""


@dataclass(frozen=True)
class TeacherOutputs:
    """The teacher's outputs for the student's regions; see `Regions`."""

    maps: list[Tensor]
    features: Tensor
    class_logits: Tensor
    deltas: Tensor
    mask_features: Tensor
    mask_logits: Tensor


class Teacher:
    """A frozen teacher for the regions of a student; its further classes count as background.

    So a teacher of COCO's 80 classes can teach only people.
    """

    def __init__(self, checkpoint: Checkpoint, student: Checkpoint) -> None:
        """Raises UsageError if it lacks a class of the student, or the input sizes differ in aspect ratio.

        Raises:
            UsageError: If it does not know a class of the student, or the input sizes are not of one shape.
        """
        expect_known(checkpoint.classes, student.classes)
        self.rows = class_rows(checkpoint.classes, student.classes)
        height, width = checkpoint.config.image_size_hw
        student_height, _ = student.config.image_size_hw
        expect_same_shape((height, width), student.config.image_size_hw)
        self.model: MaskRCNN = checkpoint.model.eval().requires_grad_(False)
        self.name = checkpoint.config.name
        self.image_size_hw = (height, width)
        self.scale = height / student_height

    @property
    def channels(self) -> int:
        """Channels of its pyramid."""
        return int(self.model.backbone.out_channels)

    @torch.no_grad()
    def outputs_for(self, images: Tensor, regions: Regions) -> TeacherOutputs:
        """The teacher's outputs for the regions of a student.

        Args:
            images: (B, 3, H, W) uint8 RGB at the student's input size.
            regions: Regions of the student; their boxes are in its pixels.
        """
        self.model.to(images.device)
        batch, _ = self.model.transform(self._resize(images))
        maps = self.model.backbone(batch.tensors)
        heads = self.model.roi_heads

        boxes = [xyxy * self.scale for xyxy in regions.boxes]
        features = heads.box_roi_pool(maps, boxes, batch.image_sizes)
        class_logits, deltas = heads.box_predictor(heads.box_head(features))
        class_logits = select_logits(class_logits, self.rows)
        deltas = select_columns(deltas, self.rows, width=4)

        object_boxes = [xyxy * self.scale for xyxy in regions.object_boxes]
        mask_features = heads.mask_roi_pool(maps, object_boxes, batch.image_sizes)
        mask_logits = heads.mask_predictor(heads.mask_head(mask_features))
        mask_logits = select_columns(mask_logits, self.rows)
        return TeacherOutputs(
            maps=list(maps.values()),
            features=features,
            class_logits=class_logits,
            deltas=deltas,
            mask_features=mask_features,
            mask_logits=mask_logits,
        )

    def _resize(self, images: Tensor) -> Tensor:
        if tuple(images.shape[-2:]) == self.image_size_hw:
            return images
        resized = F.interpolate(images.float(), self.image_size_hw, mode="bilinear", antialias=True)
        return resized.round().clamp(0, 255).to(torch.uint8)


def expect_known(known: Sequence[str], wanted: Sequence[str]) -> None:
    """Check that a teacher has all classes of the student.

    Raises:
        UsageError: If it lacks one.
    """
    overlap = compare_classes(known, wanted)
    if overlap.new:
        raise UsageError(
            f"--teacher: the teacher's classes are {tuple(known[:5])}, without {overlap.new[:5]}, which the student "
            "needs; train a teacher on the same classes, or use the same class names"
        )


def expect_same_shape(size_hw: tuple[int, int], student_hw: tuple[int, int]) -> None:
    """Check that a region of the student's image is a region of the teacher's.

    Raises:
        UsageError: If the inputs differ in aspect ratio.
    """
    height, width = size_hw
    student_height, student_width = student_hw
    if height * student_width != width * student_height:
        raise UsageError(
            f"--teacher: the teacher's input is {height}x{width}, the student's {student_height}x{student_width}; "
            "expected the same aspect ratio: change --imgsz or --teacher-imgsz"
        )


def class_rows(known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The teacher's row of the background (0) and of each class of the student."""
    row_of = {name.casefold(): row for row, name in enumerate(known, start=1)}
    return [0, *(row_of[name.casefold()] for name in wanted)]


def select_logits(logits: Tensor, rows: Sequence[int]) -> Tensor:
    """Class logits (N, classes) of some classes; the probability of all others is added to the background, row 0."""
    others = sorted(set(range(logits.shape[1])) - set(rows[1:]))
    background = logits[:, others].logsumexp(1, keepdim=True)
    return torch.cat([background, logits[:, rows[1:]]], 1)


def select_columns(values: Tensor, rows: Sequence[int], width: int = 1) -> Tensor:
    """The columns of some classes in values (N, classes * width, ...)."""
    by_class: Tensor = values.unflatten(1, (-1, width))
    return by_class[:, list(rows)].flatten(1, 2)


def make_adapter(student: MaskRCNN, teacher: Teacher) -> nn.Module:
    """Maps the student's features to the teacher's width; trained with it and then discarded."""
    width = int(student.backbone.out_channels)
    if width == teacher.channels:
        return nn.Identity()
    return nn.Conv2d(width, teacher.channels, 1)


def distillation_losses(
    regions: Regions, teacher_outputs: TeacherOutputs, adapter: nn.Module, config: TrainConfig
) -> dict[str, Tensor]:
    """The weighted losses by name; each is 0 if student and teacher agree, and absent if its weight is 0."""
    measures = {
        "maps": partial(_map_loss, regions, teacher_outputs, adapter),
        "features": partial(_region_feature_loss, regions, teacher_outputs, adapter),
        "classes": partial(class_loss, regions.class_logits, teacher_outputs.class_logits),
        "boxes": partial(box_loss, regions.deltas, teacher_outputs.deltas, teacher_outputs.class_logits),
        "masks": partial(mask_loss, regions.mask_logits, teacher_outputs.mask_logits, regions.object_labels),
    }
    losses = {}
    for name, measure in measures.items():
        weight = getattr(config, f"distill_{name}")
        if weight:
            losses[f"loss_distill_{name}"] = weight * measure()
    return losses


def _map_loss(regions: Regions, teacher_outputs: TeacherOutputs, adapter: nn.Module) -> Tensor:
    """Loss of all positions of the pyramid, with the same weight for each of its maps."""
    losses = []
    # One pyramid may have more coarse levels than the other.
    for own, theirs in zip(regions.maps, teacher_outputs.maps, strict=False):
        losses.append(feature_loss(adapter(own), _as_large(theirs, own)))
    return torch.stack(losses).mean()


def _region_feature_loss(regions: Regions, teacher_outputs: TeacherOutputs, adapter: nn.Module) -> Tensor:
    """Loss of the inputs of the box head and the mask head."""
    box_features = _as_large(teacher_outputs.features, regions.features)
    mask_features = _as_large(teacher_outputs.mask_features, regions.mask_features)
    of_boxes = feature_loss(adapter(regions.features), box_features)
    of_masks = feature_loss(adapter(regions.mask_features), mask_features)
    return of_boxes + of_masks


def _as_large(theirs: Tensor, own: Tensor) -> Tensor:
    """The teacher's feature maps with as many cells as the student's: they may pool more bins, or have a larger
    input."""
    if theirs.shape[-2:] == own.shape[-2:] or not len(theirs):
        return theirs
    return F.interpolate(theirs, own.shape[-2:], mode="bilinear", antialias=True)


def feature_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between the feature vectors (N, C, S, S) at each position, so that the student chooses its own
    scale."""
    likeness = F.cosine_similarity(student.float(), teacher.float(), dim=1, eps=1e-6)
    known = teacher.float().abs().amax(1) > 0  # the cosine with a zero vector has no meaning
    return ((1 - likeness) * known).sum() / known.sum().clamp(min=1)


def class_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the softened class distributions from logits (N, K), in nats times T^2."""
    if not len(student):
        return student.sum()
    own = F.log_softmax(student.float() / TEMPERATURE, dim=1)
    theirs = F.log_softmax(teacher.float() / TEMPERATURE, dim=1)
    return F.kl_div(own, theirs, log_target=True, reduction="batchmean") * TEMPERATURE**2


def box_loss(student: Tensor, teacher: Tensor, class_logits: Tensor) -> Tensor:
    """Smooth L1 between deltas (N, 4 K) of the teacher's most likely class, weighted by its probability of an
    object."""
    chance = class_logits.float().softmax(1)
    likeliest = chance[:, 1:].argmax(1) + 1
    rows = torch.arange(len(student), device=student.device)
    by_class = (len(student), chance.shape[1], 4)
    own = student.float().reshape(by_class)[rows, likeliest]
    theirs = teacher.float().reshape(by_class)[rows, likeliest]
    distance = F.smooth_l1_loss(own, theirs, reduction="none", beta=1 / 9).sum(1)
    weight = 1 - chance[:, 0]
    return (distance * weight).sum() / weight.sum().clamp(min=1.0)


def mask_loss(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """Divergence of the mask probabilities of each object's own class, from logits (Q, K, M, M), mean over pixels."""
    if not len(labels):
        return student.sum() * 0
    rows = torch.arange(len(labels), device=labels.device)
    own = student[rows, labels].float()
    theirs = _as_large(teacher, student)[rows, labels].float()
    target = theirs.sigmoid()
    cross = F.binary_cross_entropy_with_logits(own, target)
    entropy = F.binary_cross_entropy_with_logits(theirs, target)
    return cross - entropy

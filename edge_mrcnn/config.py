"""Settings of the model and the presets, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from runtimes.errors import ModelFileError, UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1], what most published weights expect."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The parts of a Mask R-CNN. A preset is one of these; every part can be named alone."""

    name: str = "nano"
    """Preset that this started from."""
    image_size_hw: tuple[int, int] = (320, 320)
    """Height and width of the letterboxed input in pixels, multiples of 64."""
    backbone: str = "mobilenet_v3_large"
    """Name in `edge_mrcnn.model.backbones.BACKBONES`, or "timm:<name>"."""
    image_mean: tuple[float, float, float] | None = None
    """Mean of RGB in [0, 1] that images are normalised by; None: that of the backbone's published weights. A trained
    model states its own."""
    image_std: tuple[float, float, float] | None = None
    """Deviation of RGB that images are normalised by, in the same way."""
    fpn_channels: int = 96
    """Width of the feature pyramid."""
    anchor_scale: float = 3.0
    """Side of an anchor as a multiple of its level's stride."""
    box_hidden: tuple[int, ...] = (256,)
    """Widths of the fully connected layers of the box head."""
    class_agnostic_boxes: bool = True
    """One box regression for all classes, instead of one per class."""
    mask_hidden: tuple[int, ...] = (64, 64, 64)
    """Widths of the 3x3 convolutions of the mask head."""
    mask_levels: int = 1
    """How many of the finest pyramid maps the mask head reads; 0 is all that the box head reads.

    In a small input the level rule leaves a large object a few cells. On people at 320 px masks of the finest map
    alone came out better (docs/people.md), and RoIAlign without levels costs less.
    """
    roi_samples: int = 1
    """Samples per bin and axis of RoIAlign at inference; training takes at least two. 0 is as many as cells in a bin.

    On people, whose model was trained with two, one gave 0.3 points more box AP and 0.1 less mask AP; RoIAlign, which
    is up to 40 % of an INT8 frame, has a quarter of the work.
    """
    roi_aligned: bool = False
    """RoIAlign half a cell to the upper left, as Detectron2 trains (ROIAlignV2); masks then fill their boxes."""
    stride_in_1x1: bool = False
    """ResNets halve their maps in the first 1x1 convolution of a stage, as MSRA's weights do, not in the 3x3."""
    anchor_sizes: tuple[float, ...] = ()
    """Sides in pixels of the anchors of torchvision's ResNet pyramid, finest level first; () for its own, 32 to 512."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights of anchors relative to their widths."""
    anchors_rounded: bool = True
    """Corners of anchors lie on whole pixels, as torchvision's do and Detectron2's do not."""
    proposals: int = 64
    """P: region proposals that reach the box head at inference."""
    proposals_per_level: int = 200
    """Candidates that each pyramid level hands to the proposal NMS at inference."""
    max_detections: int = 20
    """D: detections at most in one image."""
    score_threshold: float = 0.05
    """Detections below this score are not produced, in [0, 1]."""
    proposal_iou: float = 0.7
    """IoU above which the lower-scored of two proposals is suppressed, in [0, 1]."""
    iou_threshold: float = 0.6
    """IoU above which the lower-scored box of a class is suppressed, in [0, 1].

    On pedestrians, who overlap, 0.6 gives 0.3 points more box AP than torchvision's 0.5, elsewhere as much.
    """

    def __post_init__(self) -> None:
        if any(side < 64 or side % 64 for side in self.image_size_hw):
            raise UsageError(f"image size {self.image_size_hw}: expected positive multiples of 64")
        if not (0 <= self.score_threshold < 1 and 0 < self.iou_threshold <= 1):
            raise UsageError(f"thresholds must lie in [0, 1], got {self.score_threshold} and {self.iou_threshold}")
        if min(self.proposals, self.proposals_per_level, self.max_detections) < 1 or self.roi_samples < 0:
            raise UsageError("proposals and max_detections must be at least 1, roi_samples at least 0")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`.

        Raises:
            ModelFileError: If a field is unknown.
        """
        # What models of earlier versions were trained with, before there were these fields.
        record = {"mask_levels": 0, "roi_samples": 2, **record}
        if record.get("backbone", "").startswith("timm:"):
            record = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, **record}
        unknown = set(record) - {f.name for f in fields(cls)}
        if unknown:
            raise ModelFileError(f"the checkpoint has unknown settings {sorted(unknown)}: update edge-mrcnn")
        settings: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
        return cls(**settings)

    def updated(self, **changes: Any) -> ModelConfig:
        """A copy with some fields changed; None means "leave as it is"."""
        return replace(self, **{k: v for k, v in changes.items() if v is not None})


PRESETS = {
    "nano": ModelConfig(),
    "nano-dense": ModelConfig(name="nano-dense", backbone="repvgg_lite"),
    "small": ModelConfig(
        name="small",
        image_size_hw=(448, 448),
        fpn_channels=112,
        mask_hidden=(96, 96, 96),
        proposals=100,
        max_detections=50,
    ),
    "small-dense": ModelConfig(
        name="small-dense",
        image_size_hw=(448, 448),
        backbone="repvgg_wide",
        fpn_channels=112,
        mask_hidden=(96, 96, 96),
        proposals=100,
        max_detections=50,
    ),
    "base": ModelConfig(
        name="base",
        image_size_hw=(512, 512),
        backbone="timm:mobilenetv4_conv_medium",
        fpn_channels=112,
        box_hidden=(512,),
        mask_hidden=(128, 128, 128),
        proposals=100,
        max_detections=50,
    ),
    "resnet50": ModelConfig(
        name="resnet50",
        image_size_hw=(832, 832),
        backbone="torchvision_resnet50_fpn",
        fpn_channels=256,
        box_hidden=(1024, 1024),
        class_agnostic_boxes=False,
        mask_hidden=(256, 256, 256, 256),
        mask_levels=0,
        roi_samples=2,
        iou_threshold=0.5,
        proposals=1000,
        proposals_per_level=1000,
        max_detections=100,
    ),
}
"""Preset name to its parts."""


def preset(name: str) -> ModelConfig:
    """The parts of a preset.

    Raises:
        UsageError: If there is no such preset.
    """
    if name not in PRESETS:
        raise UsageError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]


STAGES = 5
"""Of every backbone: the stem, and what leads to strides 4, 8, 16 and 32."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained."""

    epochs: int = 12
    """Passes over the training images."""
    batch: int = 8
    """Images in one step on one device."""
    lr: float = 0.0
    """Peak learning rate; 0 takes the optimizer's usual one for this batch (SGD: 0.02 for 16 images)."""
    optimizer: str = "sgd"
    """"sgd" (momentum 0.9) or "adamw"."""
    weight_decay: float = 1e-4
    """Decay of convolution and linear weights; normalisation and biases have none."""
    warmup_steps: int = 100
    """Steps of linear warm-up."""
    schedule: str = "cosine"
    """How the learning rate falls: "cosine", or "step" to a tenth at 2/3 and again at 8/9 of the steps."""
    clip_norm: float = 10.0
    """Length to which longer gradients are cut; 0 cuts none."""
    ema: float = 0.998
    """Decay of the moving average of the weights that is evaluated and saved; 0 turns it off."""
    freeze_stages: int | None = None
    """Leading backbone stages that are not trained: 1 the stem, 2 to 5 also what leads to strides 4, 8, 16 and 32; -1
    freezes the whole backbone; None: as in the checkpoint's earlier training, else 0."""
    freeze_norm: bool | None = None
    """Keep the BatchNorm statistics of the backbone, as suits published weights and small batches; None: as in the
    checkpoint's earlier training, else they are trained."""
    backbone_lr_factor: float = 1.0
    """Learning rate of the backbone relative to the rest."""
    precision: str = "auto"
    """"32", "bf16", "16" or "auto" (bf16 where the device multiplies it natively, else 32)."""
    channels_last: bool = False
    """Lay out feature maps with channels last, which suits tensor cores; on CUDA devices only."""
    compile: bool = False
    """Compile the backbone and the pyramid, where a compiler for the device is installed."""
    rois: int = 128
    """Regions per image on which the box head is trained, a quarter of them objects, which train the mask head."""
    learn_crowds: bool = False
    """Take crowd regions (`iscrowd=1`) as single objects; tools with brushes mark those so."""
    workers: int = 2
    """Processes that load data."""
    seed: int = 0
    """Seed of weights, order and augmentation."""
    eval_every: int = 1
    """Epochs between two evaluations on the validation split."""
    eval_limit: int = 500
    """Validation images at most in the evaluations during training."""
    patience: int = 0
    """Evaluations without a better mask AP after which training stops; 0 never stops early."""
    distill_maps: float = 0.0
    """Weight of the loss between the pyramids of student and teacher, for a backbone without published weights."""
    distill_features: float = 1.0
    """Weight of the loss between the region features of student and teacher, where there is a teacher."""
    distill_classes: float = 1.0
    """Weight of the loss between their class probabilities."""
    distill_boxes: float = 1.0
    """Weight of the loss between their box regressions."""
    distill_masks: float = 1.0
    """Weight of the loss between their masks."""
    scale_jitter: tuple[float, float] = (0.6, 1.5)
    """Range of the random scale relative to the letterboxed size."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    color_jitter: float = 0.25
    """Strength of the random brightness, contrast and saturation, in [0, 1]."""
    copy_paste: float = 0.0
    """Share of images onto which objects of another training image are pasted, in [0, 1]."""

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1:
            raise UsageError(f"epochs {self.epochs} and batch {self.batch}: expected at least 0 and 1")
        if self.rois < 4:
            raise UsageError(f"rois {self.rois}: expected at least 4")
        if self.eval_every < 1 or self.workers < 0:
            raise UsageError(f"eval_every {self.eval_every} and workers {self.workers}: expected at least 1 and 0")
        if self.freeze_stages not in (None, *range(-1, STAGES + 1)):
            raise UsageError(
                f"freeze_stages {self.freeze_stages}: expected 0 to {STAGES}, the stem and one stage for each of the "
                "strides 4, 8, 16 and 32, or -1 for the whole backbone"
            )
        if self.lr < 0 or not 0 <= self.ema < 1:
            raise UsageError(f"lr {self.lr} and ema {self.ema}: expected at least 0, and from 0 to below 1")
        if not all(0 <= share <= 1 for share in (self.flip, self.color_jitter, self.copy_paste)):
            raise UsageError(
                f"flip {self.flip}, color_jitter {self.color_jitter} and copy_paste {self.copy_paste}: "
                "expected shares from 0 to 1"
            )
        if self.optimizer not in ("sgd", "adamw"):
            raise UsageError(f"optimizer {self.optimizer!r}: expected sgd or adamw")
        if self.schedule not in ("cosine", "step"):
            raise UsageError(f"schedule {self.schedule!r}: expected cosine or step")
        weights = (
            self.distill_maps,
            self.distill_features,
            self.distill_classes,
            self.distill_boxes,
            self.distill_masks,
        )
        if min(self.clip_norm, self.patience, *weights) < 0:
            raise UsageError(
                f"clip_norm {self.clip_norm}, patience {self.patience} and weights of distillation {weights}: "
                "expected at least 0"
            )
        if self.precision not in ("auto", "32", "bf16", "16"):
            raise UsageError(f"precision {self.precision!r}: expected auto, 32, bf16 or 16")

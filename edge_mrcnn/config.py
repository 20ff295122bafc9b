"""Settings of the model and the presets, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

from edge_mrcnn.settings import Flag, Range, check
from runtimes.errors import ModelFileError, UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Of RGB in [0, 1], what most published weights expect."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The parts of a Mask R-CNN. A preset is one of these; every part can be named alone."""

    name: str = "nano"
    """Preset that this started from."""
    image_size_hw: Annotated[tuple[int, int], Flag("--imgsz")] = (320, 320)
    """Size of the letterboxed input in pixels, S or HxW, multiples of 32."""
    backbone: str = "mobilenet_v3_large"
    """A name that `edge-mrcnn models` lists, or "timm:NAME"."""
    image_mean: tuple[float, float, float] | None = None
    """Mean of RGB in [0, 1] that images are normalised by; without one that of the backbone's published weights. A
    trained model states its own."""
    image_std: tuple[float, float, float] | None = None
    """Deviation of RGB that images are normalised by, in the same way."""
    fpn_channels: Annotated[int, Range(1)] = 96
    """Width of the feature pyramid."""
    anchor_scale: Annotated[float, Range(0, without_least=True)] = 3.0
    """Side of an anchor as a multiple of its level's stride."""
    box_hidden: Annotated[tuple[int, ...], Range(1)] = (256,)
    """Widths of the fully connected layers of the box head."""
    class_agnostic_boxes: bool = True
    """One box regression for all classes, instead of one per class."""
    box_pool_size: Annotated[int, Range(1)] = 7
    """Bins per axis of the features that the box head gets."""
    mask_pool_size: Annotated[int, Range(1)] = 14
    """Bins per axis of the features that the mask head gets; its masks have twice as many cells."""
    mask_hidden: Annotated[tuple[int, ...], Range(1)] = (64, 64, 64)
    """Widths of the 3x3 convolutions of the mask head."""
    mask_levels: Annotated[int, Range(0)] = 1
    """How many of the finest pyramid maps the mask head reads; 0 is all that the box head reads.

    In a small input the level rule leaves a large object a few cells. On people at 320 px masks of the finest map
    alone came out better (docs/people.md), and RoIAlign without levels costs less.
    """
    roi_samples: Annotated[int, Range(0)] = 1
    """Samples per bin and axis of RoIAlign at inference; training takes at least two. 0 is as many as cells in a bin.

    On people, whose model was trained with two, one gave 0.3 points more box AP and 0.1 less mask AP; RoIAlign, which
    is up to 40 % of an INT8 frame, has a quarter of the work.
    """
    roi_aligned: bool = False
    """RoIAlign half a cell to the upper left, as Detectron2 trains (ROIAlignV2); masks then fill their boxes."""
    stride_in_1x1: bool = False
    """ResNets halve their maps in the first 1x1 convolution of a stage, as MSRA's weights do, not in the 3x3."""
    anchor_sizes: Annotated[tuple[float, ...], Range(0, without_least=True)] = ()
    """Sides of the anchors in pixels, finest level first; by default as `anchor_scale` and the input give them.

    A light model has a level for each, at strides 8, 16, ... A new one gets so many that the largest fits the input.
    Where a checkpoint has none, they are 32 to 512 on torchvision's ResNet pyramid, and the four sizes of earlier
    versions on a light one.
    """
    anchor_ratios: Annotated[tuple[float, ...], Range(0, without_least=True)] = (0.5, 1.0, 2.0)
    """Heights of anchors relative to their widths."""
    anchors_rounded: bool = True
    """Corners of anchors lie on whole pixels, as torchvision's do and Detectron2's do not."""
    proposals: Annotated[int, Range(1)] = 64
    """P: region proposals that reach the box head at inference."""
    proposals_per_level: Annotated[int, Range(1)] = 200
    """Candidates that each pyramid level hands to the proposal NMS at inference."""
    max_detections: Annotated[int, Range(1), Flag("--max-det")] = 20
    """D: detections at most in one image."""
    score_threshold: Annotated[float, Range(0, 1, without_most=True), Flag("--conf")] = 0.05
    """Detections below this score are not produced."""
    proposal_iou: Annotated[float, Range(0, 1, without_least=True)] = 0.7
    """IoU above which the lower-scored of two proposals is suppressed."""
    iou_threshold: Annotated[float, Range(0, 1, without_least=True), Flag("--iou")] = 0.6
    """IoU above which the lower-scored box of a class is suppressed.

    On pedestrians, who overlap, 0.6 gives 0.3 points more box AP than torchvision's 0.5, elsewhere as much.
    """

    def __post_init__(self) -> None:
        if any(side < 64 or side % 32 for side in self.image_size_hw):
            raise UsageError(f"image size {self.image_size_hw}: expected multiples of 32, from 64 on")
        check(self)

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


LARGEST_ANCHOR = 0.6
"""Share of the input's longer side that the largest anchor has at least; 192 px at 320."""


def default_anchor_sizes(config: ModelConfig) -> tuple[float, ...]:
    """Sides in pixels of the anchors of a new light model, finest level first.

    Larger inputs get more levels, not larger anchors: at 640 px the share of COCO's objects that find an anchor is 76 %
    with one more level, 62 % with anchors twice as large, 70 % with neither (benchmarks/anchor_coverage.py).
    """
    sizes = [config.anchor_scale * stride for stride in (8, 16, 32, 64)]
    while sizes[-1] < LARGEST_ANCHOR * max(config.image_size_hw):
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


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

    epochs: Annotated[int, Range(0)] = 12
    """Passes over the training images."""
    max_steps: Annotated[int, Range(0)] = 0
    """Steps of the optimizer in place of epochs, as recipes in iterations have them; 0 counts epochs."""
    batch: Annotated[int, Range(1)] = 8
    """Images in one step on one device."""
    lr: Annotated[float, Range(0)] = 0.0
    """Peak learning rate; 0 takes the optimizer's usual one for this batch (SGD: 0.02 for 16 images)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Stochastic gradient descent with momentum, or AdamW."""
    momentum: Annotated[float, Range(0, 1, without_most=True)] = 0.9
    """Momentum of SGD; the first beta of AdamW."""
    nesterov: bool = True
    """Nesterov's momentum, in SGD; Detectron2's recipes have the plain one."""
    weight_decay: Annotated[float, Range(0)] = 1e-4
    """Decay of convolution and linear weights."""
    norm_decay: Annotated[float, Range(0)] = 0.0
    """Decay of the weights and biases of normalisation layers."""
    bias_decay: Annotated[float, Range(0)] = 0.0
    """Decay of the other biases."""
    warmup_steps: Annotated[int, Range(0)] = 100
    """Steps of linear warm-up."""
    warmup_factor: Annotated[float, Range(0, 1)] = 0.01
    """Share of the peak learning rate at which warm-up begins."""
    schedule: Literal["cosine", "step"] = "cosine"
    """How the learning rate falls: by a cosine, or by `gamma` at each of the milestones."""
    milestones: Annotated[tuple[float, ...], Range(0, without_least=True)] = (2 / 3, 8 / 9)
    """Of the "step" schedule: steps, or up to 1 shares of all steps, at which the learning rate falls."""
    gamma: Annotated[float, Range(0, 1, without_least=True)] = 0.1
    """Of the "step" schedule: what the learning rate is multiplied by at a milestone."""
    clip_norm: Annotated[float, Range(0)] = 10.0
    """Length to which longer gradients are cut; 0 cuts none."""
    ema: Annotated[float, Range(0, 1, without_most=True)] = 0.998
    """Decay of the moving average of the weights that is evaluated and saved; 0 turns it off."""
    freeze_stages: Annotated[int | None, Range(-1, STAGES)] = None
    """Leading backbone stages that are not trained: 1 the stem, 2 to 5 also what leads to strides 4, 8, 16 and 32; -1
    freezes the whole backbone; without a number as in the checkpoint's earlier training, else 0."""
    freeze_norm: bool | None = None
    """Keep the BatchNorm statistics of the backbone, as suits published weights and small batches; unless said, as in
    the checkpoint's earlier training, else they are trained."""
    backbone_lr_factor: Annotated[float, Range(0)] = 1.0
    """Learning rate of the backbone relative to the rest."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """"32", "bf16", "16" or "auto" (bf16 where the device multiplies it natively, else 32)."""
    channels_last: bool = False
    """Lay out feature maps with channels last, which suits tensor cores; on CUDA devices only."""
    compile: bool = False
    """Compile the backbone and the pyramid, where a compiler for the device is installed."""
    rois: Annotated[int, Range(4)] = 128
    """Regions per image on which the box head is trained; those of objects train the mask head."""
    roi_positive_fraction: Annotated[float, Range(0, 1, without_least=True)] = 0.25
    """Share of those regions that are objects, at most."""
    roi_object_iou: Annotated[float, Range(0, 1)] = 0.5
    """IoU with an object from which on a proposal is one."""
    roi_background_iou: Annotated[float, Range(0, 1)] = 0.5
    """IoU below which a proposal is background."""
    rpn_batch: Annotated[int, Range(2)] = 256
    """Anchors per image on which the RPN is trained."""
    rpn_positive_fraction: Annotated[float, Range(0, 1, without_least=True)] = 0.5
    """Share of those anchors that are objects, at most."""
    rpn_object_iou: Annotated[float, Range(0, 1)] = 0.7
    """IoU with an object from which on an anchor is one; the best anchor of an object is in any case."""
    rpn_background_iou: Annotated[float, Range(0, 1)] = 0.3
    """IoU below which an anchor is background."""
    train_proposals: Annotated[int, Range(0)] = 0
    """Proposals behind NMS per image in training; 0 is the model's own: 300 of a light one, 2000 of torchvision's."""
    train_proposals_per_level: Annotated[int, Range(0)] = 0
    """Candidates of each level before NMS in training; 0 is the model's own: 500, and 2000 of torchvision's."""
    learn_crowds: bool = False
    """Take crowd regions (`iscrowd=1`) as single objects; tools with brushes mark those so."""
    workers: Annotated[int, Range(0)] = 2
    """Processes that load data."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of weights, order and augmentation."""
    eval_every: Annotated[int, Range(1)] = 1
    """Epochs between two evaluations on the validation split."""
    eval_limit: Annotated[int, Range(1)] = 500
    """Validation images at most in the evaluations during training."""
    patience: Annotated[int, Range(0)] = 0
    """Evaluations without a better mask AP after which training stops; 0 never stops early."""
    logger: Literal["tensorboard", "mlflow", "wandb"] = "tensorboard"
    """Log of losses and AP: TensorBoard's events, and MLflow or Weights & Biases beside them."""
    distill_maps: Annotated[float, Range(0)] = 0.0
    """Weight of the loss between the pyramids of student and teacher, for a backbone without published weights."""
    distill_features: Annotated[float, Range(0)] = 1.0
    """Weight of the loss between the region features of student and teacher, where there is a teacher."""
    distill_classes: Annotated[float, Range(0)] = 1.0
    """Weight of the loss between their class probabilities."""
    distill_boxes: Annotated[float, Range(0)] = 1.0
    """Weight of the loss between their box regressions."""
    distill_masks: Annotated[float, Range(0)] = 1.0
    """Weight of the loss between their masks."""
    scale_jitter: Annotated[tuple[float, float], Range(0, without_least=True)] = (0.6, 1.5)
    """Range of the random scale relative to the letterboxed size."""
    short_sides: Annotated[tuple[int, ...], Range(1)] = ()
    """Shorter sides in pixels to which pictures are resized, one drawn for each view, in place of `scale_jitter`: the
    multi-scale training of Detectron2's recipes. The view keeps the size of the input; what does not fit is cut off."""
    long_side: Annotated[int, Range(0)] = 0
    """Longer side in pixels at most of a picture that is resized to one of `short_sides`; 0 sets no limit."""
    flip: Annotated[float, Range(0, 1)] = 0.5
    """Probability of a horizontal flip."""
    color_jitter: Annotated[float, Range(0, 1)] = 0.25
    """Strength of the random brightness, contrast and saturation."""
    copy_paste: Annotated[float, Range(0, 1)] = 0.0
    """Share of images onto which objects of another training image are pasted."""

    def __post_init__(self) -> None:
        check(self)
        for part, low, high in (
            ("roi", self.roi_background_iou, self.roi_object_iou),
            ("rpn", self.rpn_background_iou, self.rpn_object_iou),
        ):
            if low > high:
                raise UsageError(f"{part}_background_iou {low}: expected at most {part}_object_iou, which is {high}")
        if self.scale_jitter[0] > self.scale_jitter[1]:
            raise UsageError(f"scale_jitter {self.scale_jitter}: expected the smaller scale first")


@dataclass(frozen=True, kw_only=True)
class PseudoLabelConfig:
    """Which answers of a teacher become labels."""

    pseudo_score: Annotated[float, Range(0, 1)] = 0.7
    """Score from which on what the teacher finds in an unlabelled picture is an object to learn."""
    pseudo_doubt: Annotated[float, Range(0, 1)] = 0.3
    """Score from which on something may be an object: a picture with nothing surer is left out. Also the score that
    the teacher must give a box to outline what is in it."""
    pseudo_masks: bool = False
    """Let the teacher outline objects that have a box only, where teacher and box agree."""
    pseudo_box_iou: Annotated[float, Range(0, 1)] = 0.7
    """IoU of the given box and the teacher's mask from which on they agree."""

    def __post_init__(self) -> None:
        check(self)
        if self.pseudo_doubt > self.pseudo_score:
            raise UsageError(
                f"pseudo_doubt {self.pseudo_doubt}: expected at most pseudo_score, which is {self.pseudo_score}"
            )

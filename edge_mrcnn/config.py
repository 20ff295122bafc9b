"""Settings of the model and the presets, without torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal

from edge_mrcnn.settings import Flag, Range, check
from runtimes.errors import ModelFileError, UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in [0, 1] of most published weights."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The parts of a Mask R-CNN. A preset is one of these; each part can also be set by itself."""

    name: str = "nano"
    """Preset that these settings started from."""
    image_size_hw: Annotated[tuple[int, int], Flag("--imgsz")] = (320, 320)
    """Size of the letterboxed input in pixels: S or HxW, in multiples of 32."""
    backbone: str = "mobilenet_v3_large"
    """Backbone: a name that `edge-mrcnn models` lists, or "timm:NAME"."""
    image_mean: tuple[float, float, float] | None = None
    """Mean of RGB in [0, 1] for normalising images; by default that of the backbone's published weights. A trained
    model keeps its own."""
    image_std: tuple[float, float, float] | None = None
    """Standard deviation of RGB for normalising images; same default as `image_mean`."""
    fpn_channels: Annotated[int, Range(1)] = 96
    """Channels of the feature pyramid (FPN)."""
    anchor_scale: Annotated[float, Range(0, without_least=True)] = 3.0
    """Anchor side as a multiple of the stride of its pyramid level."""
    box_hidden: Annotated[tuple[int, ...], Range(1)] = (256,)
    """Widths of the fully connected layers of the box head."""
    class_agnostic_boxes: bool = True
    """Share one box regression among all classes, instead of one per class."""
    box_pool_size: Annotated[int, Range(1)] = 7
    """RoIAlign output size of the box head, in bins per axis."""
    mask_pool_size: Annotated[int, Range(1)] = 14
    """RoIAlign output size of the mask head, in bins per axis; masks have twice this side."""
    mask_hidden: Annotated[tuple[int, ...], Range(1)] = (64, 64, 64)
    """Widths of the 3x3 convolutions of the mask head."""
    mask_levels: Annotated[int, Range(0)] = 1
    """Number of finest pyramid levels that the mask head reads; 0 reads the same levels as the box head.

    In a small input, the FPN level assignment gives a large object only a few cells. On people at 320 px, masks from
    the finest level alone were better (docs/people.md), and RoIAlign on a single level costs less.
    """
    roi_samples: Annotated[int, Range(0)] = 1
    """RoIAlign samples per bin and axis at inference; training uses at least two. 0 adapts to the bin's size in cells.

    The people model was trained with two. At inference, one sample gave 0.3 points more box AP and 0.1 points less
    mask AP. It also quarters the work of RoIAlign, which takes up to 40 % of the time of an INT8 frame.
    """
    roi_aligned: bool = False
    """Shift RoIAlign by half a cell (ROIAlignV2), as Detectron2 does; masks then fill their boxes exactly."""
    stride_in_1x1: bool = False
    """Put the stride of a ResNet stage in its first 1x1 convolution, as MSRA's weights need, not in the 3x3."""
    anchor_sizes: Annotated[tuple[float, ...], Range(0, without_least=True)] = ()
    """Anchor sides in pixels, finest level first; by default computed from `anchor_scale` and the input size.

    A light model has one pyramid level for each size, at strides 8, 16, ... A new model gets enough levels for the
    largest anchor to fit the input. A checkpoint without sizes uses 32 to 512 on torchvision's ResNet pyramid, and
    the four sizes of earlier versions on a light pyramid.
    """
    anchor_ratios: Annotated[tuple[float, ...], Range(0, without_least=True)] = (0.5, 1.0, 2.0)
    """Aspect ratios of the anchors: height divided by width."""
    anchors_rounded: bool = True
    """Round anchor corners to whole pixels, as torchvision does and Detectron2 does not."""
    proposals: Annotated[int, Range(1)] = 64
    """P: region proposals given to the box head at inference."""
    proposals_per_level: Annotated[int, Range(1)] = 200
    """Candidates of each pyramid level before the proposal NMS at inference."""
    max_detections: Annotated[int, Range(1), Flag("--max-det")] = 20
    """D: maximum number of detections per image."""
    score_threshold: Annotated[float, Range(0, 1, without_most=True), Flag("--conf")] = 0.05
    """Score threshold: drop detections below it."""
    proposal_iou: Annotated[float, Range(0, 1, without_least=True)] = 0.7
    """IoU threshold of the NMS of proposals."""
    iou_threshold: Annotated[float, Range(0, 1, without_least=True), Flag("--iou")] = 0.6
    """IoU threshold of the class-wise NMS of detections.

    On pedestrians, who overlap, 0.6 gives 0.3 points more box AP than torchvision's 0.5. On other data both are equal.
    """

    def __post_init__(self) -> None:
        if any(side < 64 or side % 32 for side in self.image_size_hw):
            raise UsageError(f"image size {self.image_size_hw}: expected multiples of 32, at least 64")
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
        # Models of earlier versions, which had no such fields, were trained with these values.
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
"""Minimum size of the largest anchor, as a share of the input's longer side; 192 px at 320."""


def default_anchor_sizes(config: ModelConfig) -> tuple[float, ...]:
    """Anchor sides in pixels of a new light model, finest level first.

    Larger inputs get more levels, not larger anchors. At 640 px, 76 % of COCO's objects match an anchor with one more
    level, 62 % with anchors twice as large, 70 % with neither (benchmarks/anchor_coverage.py).
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
"""Stages of every backbone: the stem, and the stages up to strides 4, 8, 16 and 32."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a training."""

    epochs: Annotated[int, Range(0)] = 12
    """Number of passes over the training images."""
    max_steps: Annotated[int, Range(0)] = 0
    """Length of the training in optimizer steps, in place of epochs; 0 uses epochs."""
    batch: Annotated[int, Range(1)] = 8
    """Images per step and device."""
    lr: Annotated[float, Range(0)] = 0.0
    """Peak learning rate; 0 uses the optimizer's usual rate for this batch size (SGD: 0.02 for 16 images)."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """Optimizer: stochastic gradient descent with momentum, or AdamW."""
    momentum: Annotated[float, Range(0, 1, without_most=True)] = 0.9
    """Momentum of SGD; the first beta of AdamW."""
    nesterov: bool = True
    """Use Nesterov momentum in SGD; Detectron2's recipes use plain momentum."""
    weight_decay: Annotated[float, Range(0)] = 1e-4
    """Weight decay of convolution and linear layers."""
    norm_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay of normalisation layers, their biases included."""
    bias_decay: Annotated[float, Range(0)] = 0.0
    """Weight decay of all other biases."""
    warmup_steps: Annotated[int, Range(0)] = 100
    """Number of steps of the linear warm-up."""
    warmup_factor: Annotated[float, Range(0, 1)] = 0.01
    """Learning rate at the start of the warm-up, as a share of the peak."""
    schedule: Literal["cosine", "step"] = "cosine"
    """Schedule of the learning rate: cosine decay, or a step by `gamma` at each milestone."""
    milestones: Annotated[tuple[float, ...], Range(0, without_least=True)] = (2 / 3, 8 / 9)
    """Milestones of the "step" schedule: values up to 1 are shares of all steps, larger ones are steps."""
    gamma: Annotated[float, Range(0, 1, without_least=True)] = 0.1
    """Factor on the learning rate at each milestone of the "step" schedule."""
    clip_norm: Annotated[float, Range(0)] = 10.0
    """Maximum norm for gradient clipping; 0 turns clipping off."""
    ema: Annotated[float, Range(0, 1, without_most=True)] = 0.998
    """Decay of the exponential moving average (EMA) of the weights, which is evaluated and saved; 0 turns it off."""
    freeze_stages: Annotated[int | None, Range(-1, STAGES)] = None
    """Number of backbone stages to freeze: 1 is the stem, 2 to 5 add the stages up to strides 4, 8, 16 and 32, -1 is
    the whole backbone. By default, `train` keeps the value of the checkpoint's own training, or else 0; `prune` trains
    all stages."""
    freeze_norm: bool | None = None
    """Freeze the BatchNorm statistics of the backbone, as suits published weights and small batches. The default is
    the value of the checkpoint's own training, or else no."""
    backbone_lr_factor: Annotated[float, Range(0)] = 1.0
    """Learning rate of the backbone, as a factor on that of the other parts."""
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    """Training precision: "32", "bf16", "16", or "auto" (bf16 where the device has native support, else 32)."""
    channels_last: bool = False
    """Use the channels-last memory layout, which suits tensor cores; CUDA devices only."""
    compile: bool = False
    """Compile the backbone and the pyramid with torch.compile, if a compiler for the device is installed."""
    rois: Annotated[int, Range(4)] = 128
    """Sampled regions (RoIs) per image in the loss of the box head; the positive ones also train the mask head."""
    roi_positive_fraction: Annotated[float, Range(0, 1, without_least=True)] = 0.25
    """Maximum share of positive regions among the sampled ones."""
    roi_object_iou: Annotated[float, Range(0, 1)] = 0.5
    """Minimum IoU with an object for a proposal to be positive."""
    roi_background_iou: Annotated[float, Range(0, 1)] = 0.5
    """Maximum IoU with any object for a proposal to be background."""
    rpn_batch: Annotated[int, Range(2)] = 256
    """Sampled anchors per image in the loss of the RPN."""
    rpn_positive_fraction: Annotated[float, Range(0, 1, without_least=True)] = 0.5
    """Maximum share of positive anchors among the sampled ones."""
    rpn_object_iou: Annotated[float, Range(0, 1)] = 0.7
    """Minimum IoU with an object for an anchor to be positive; the best anchor of each object always is."""
    rpn_background_iou: Annotated[float, Range(0, 1)] = 0.3
    """Maximum IoU with any object for an anchor to be background."""
    train_proposals: Annotated[int, Range(0)] = 0
    """Proposals per image after NMS in training; 0 uses 300 for light models and 2000 for torchvision's."""
    train_proposals_per_level: Annotated[int, Range(0)] = 0
    """Candidates of each level before NMS in training; 0 uses 500 for light models and 2000 for torchvision's."""
    learn_crowds: bool = False
    """Train on crowd regions (`iscrowd=1`) as single objects; brush tools mark single objects this way."""
    workers: Annotated[int, Range(0)] = 2
    """Number of data loading processes."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed of initial weights, image order and augmentation."""
    eval_every: Annotated[int, Range(1)] = 1
    """Interval of evaluations on the validation split, in epochs."""
    eval_limit: Annotated[int, Range(1)] = 500
    """Maximum number of validation images for evaluations during training."""
    patience: Annotated[int, Range(0)] = 0
    """Stop early after this many evaluations without a better mask AP; 0 never stops early."""
    logger: Literal["tensorboard", "mlflow", "wandb"] = "tensorboard"
    """Logger of losses and AP; TensorBoard's events are written with each of them."""
    distill_maps: Annotated[float, Range(0)] = 0.0
    """Distillation weight of the feature pyramid; useful for a backbone without published weights."""
    distill_features: Annotated[float, Range(0)] = 1.0
    """Distillation weight of the region features."""
    distill_classes: Annotated[float, Range(0)] = 1.0
    """Distillation weight of the class probabilities."""
    distill_boxes: Annotated[float, Range(0)] = 1.0
    """Distillation weight of the box regressions."""
    distill_masks: Annotated[float, Range(0)] = 1.0
    """Distillation weight of the masks."""
    scale_jitter: Annotated[tuple[float, float], Range(0, without_least=True)] = (0.6, 1.5)
    """Range of the random scale, relative to the letterboxed size."""
    short_sides: Annotated[tuple[int, ...], Range(1)] = ()
    """Multi-scale training as in Detectron2's recipes, in place of `scale_jitter`: resize the shorter side of each
    image to one of these lengths in pixels, drawn at random. The result is cropped to the input size."""
    long_side: Annotated[int, Range(0)] = 0
    """Maximum length in pixels of the longer side with `short_sides`; 0 sets no limit."""
    flip: Annotated[float, Range(0, 1)] = 0.5
    """Probability of a horizontal flip."""
    color_jitter: Annotated[float, Range(0, 1)] = 0.25
    """Strength of the random changes of brightness, contrast and saturation."""
    copy_paste: Annotated[float, Range(0, 1)] = 0.0
    """Probability of copy-paste augmentation: objects of another training image are pasted onto an image."""

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
    """Which detections of a teacher become pseudo-labels."""

    pseudo_score: Annotated[float, Range(0, 1)] = 0.7
    """Score threshold of pseudo-labels: train on the teacher's detections with at least this score."""
    pseudo_doubt: Annotated[float, Range(0, 1)] = 0.3
    """Score threshold of uncertain detections: leave out an image whose best detection scores between this and
    `pseudo_score`. Also the minimum score of the teacher's mask for a given box."""
    pseudo_masks: bool = False
    """Let the teacher add masks to objects that only have a box, if its mask agrees with the box."""
    pseudo_box_iou: Annotated[float, Range(0, 1)] = 0.7
    """Minimum IoU of the given box and the teacher's mask for them to agree."""

    def __post_init__(self) -> None:
        check(self)
        if self.pseudo_doubt > self.pseudo_score:
            raise UsageError(
                f"pseudo_doubt {self.pseudo_doubt}: expected at most pseudo_score, which is {self.pseudo_score}"
            )

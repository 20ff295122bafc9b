"""The model card: a JSON record inside every model file.

Runtimes read their settings from the card, so nothing about a model is configured twice. Each runtime's module says
where its format stores the card (ONNX metadata_props, OpenVINO rt_info, TFLite associated file).
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from runtimes.errors import ModelFileError

CARD_KEY = "edge_mrcnn"
"""Name under which each format stores the card."""
GOLDEN_KEY = "edge_mrcnn_golden"
"""Name under which each format stores golden tensors, see `runtimes.golden`."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Classes, inputs and outputs of one model file, and how it was made."""

    format_version: int = 1
    """Version of this record; readers refuse a newer one."""
    name: str
    """Preset or name of the architecture, such as "nano"."""
    classes: tuple[str, ...]
    """Class names; an output label indexes this list."""
    category_ids: tuple[int, ...]
    """The data set's category id of each class, for COCO results."""
    input_size_hw: tuple[int, int]
    """Height and width of the input tensor, in pixels."""
    pad_rgb: tuple[int, int, int]
    """Colour of the letterbox border, uint8 RGB."""
    proposals: int
    """P: region proposals given to the box head."""
    max_detections: int
    """D: maximum number of detections per image."""
    mask_size: int
    """M: side of a mask, in cells."""
    mask_offset: float = 0.5
    """Offset of masks to the right of and below their boxes, in input pixels. Training against torchvision's mask
    targets gives half a pixel (`project_masks_on_boxes`, `aligned=False`); aligned targets give 0."""
    score_threshold: float
    """Score threshold, in [0, 1]."""
    iou_threshold: float
    """IoU threshold of the class-wise NMS, in [0, 1]."""
    target: str = "torch"
    """"torch", "onnx", "openvino" or "tflite"."""
    precision: str = "fp32"
    """"fp32", "fp16" (learned layers in half precision) or "int8"."""
    batch: int = 1
    """N: images per run of the graph."""
    rows: str = "dynamic"
    """"dynamic": one row per detection; "static": always D rows per image, unused ones with score 0."""
    float_layers: tuple[str, ...] = ()
    """Early layers that TFLite's INT8 keeps in float, by the names of their modules; defined by the backbone."""
    parameters: int = 0
    """Number of weights."""
    checkpoint_sha256: str = ""
    """Hash of the checkpoint file that was exported."""
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance of the training: data, epochs, pruning, best AP."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """Provenance of the quantization: manifest hash, number of images, layers in float and the reason."""
    versions: dict[str, str] = field(default_factory=dict)
    """Packages that made the artefact, name to version."""

    def to_json(self) -> str:
        """The card as one JSON object with sorted keys."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read a card.

        Raises:
            ModelFileError: If the text is not a card of a known version.
        """
        try:
            record = json.loads(text)
            version = record["format_version"]
        except (ValueError, TypeError, KeyError) as error:
            raise ModelFileError(f"expected a model card in JSON, got {text[:40]!r}") from error
        if version > cls.format_version:
            raise ModelFileError(f"model card version {version} is newer than {cls.format_version}: update edge-mrcnn")
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k in known}
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelFileError(f"incomplete model card: {error}") from error

    def updated(self, **changes: Any) -> ModelCard:
        """A copy with some fields changed."""
        return replace(self, **changes)


def missing_card(path: object) -> ModelFileError:
    """The error for a model file without a card."""
    return ModelFileError(
        f"{path}: no model card: damaged or not made by edge-mrcnn; make one with `edge-mrcnn export`"
    )


def plain_class_name(name: str) -> str:
    """The name of a class for comparisons: case, "_", "-" and surrounding blanks are ignored."""
    spaced = name.replace("_", " ").replace("-", " ")
    composed = unicodedata.normalize("NFC", spaced)  # macOS stores some letters as two characters
    return composed.strip().casefold()

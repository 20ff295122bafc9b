"""Descriptions of checkpoints that cannot be used, with advice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edge_mrcnn.model.importers.reading import TRAIN, Unread
from edge_mrcnn.model.importers.unpacking import PREFIXES, candidates

WEIGHTS_ALONE = "save only its weights: torch.save(model.state_dict(), 'weights.pth')"

PACKAGES = (
    ("ultralytics.", f"an ultralytics model, which is not a Mask R-CNN and cannot be a teacher; {TRAIN}"),
    ("yolov5.", f"a YOLOv5 model, which is not a Mask R-CNN; {TRAIN}"),
    ("models.yolo.", f"a YOLOv5 model, which is not a Mask R-CNN; {TRAIN}"),
    (
        "torchvision.models.detection.mask_rcnn.",
        f"a pickled torchvision Mask R-CNN, which contains code; {WEIGHTS_ALONE}",
    ),
    ("detectron2.", f"a pickled Detectron2 model, which contains code; {WEIGHTS_ALONE}"),
)
"""Prefixes of the classes of pickled models -> description."""

OF_A_BACKBONE = "use it for the backbone: edge-mrcnn train --data DIR --backbone NAME --backbone-weights FILE"

NAMES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("not_finite",),
        "a training state of edge-mrcnn (last.ckpt), for --resume; give the best.pt or last.pt beside it",
    ),
    (("roi_heads.keypoint_predictor.",), f"torchvision's Keypoint R-CNN, which has no masks; {TRAIN}"),
    (
        ("roi_heads.mask_predictor.", "backbone.body."),
        "a Mask R-CNN of torchvision's parts, but on another backbone or other heads than maskrcnn_resnet50_fpn and "
        f"maskrcnn_resnet50_fpn_v2 have; {TRAIN}",
    ),
    (("roi_heads.box_predictor.",), f"torchvision's Faster R-CNN, which has boxes and no masks; {TRAIN}"),
    (
        ("head.classification_head.", "backbone."),
        f"a one-stage detector of torchvision (RetinaNet, SSD or FCOS), without masks; {TRAIN}",
    ),
    (
        ("classifier.", "backbone."),
        f"a semantic segmentation model of torchvision, which does not detect single objects; {TRAIN}",
    ),
    (("stem.conv1.", "res2."), f"a backbone of Detectron2 alone, without a Mask R-CNN around it; {TRAIN}"),
    (("fc.weight", "layer1."), f"the weights of a classifier (a ResNet); {OF_A_BACKBONE}"),
    (("features.", "classifier."), f"the weights of a classifier; {OF_A_BACKBONE}"),
    (("head.weight",), f"the weights of a classifier; {OF_A_BACKBONE}"),
    (("fc.weight",), f"the weights of a classifier; {OF_A_BACKBONE}"),
    (("classifier.weight",), f"the weights of a classifier; {OF_A_BACKBONE}"),
    (("layer1.", "layer4."), f"the weights of a bare ResNet; {OF_A_BACKBONE}"),
)
"""Prefixes of weight names that must all be present -> description; the first match is used."""


def name_foreign(record: Any) -> str:
    """Description of a record that no importer supports, with advice."""
    for value in (record, *(record.values() if isinstance(record, Mapping) else ())):
        if isinstance(value, Unread):
            return _name_pickled(value.path)
    for _, state in candidates(record):
        for prefix in PREFIXES:
            if what := _name_weights(state, prefix):
                return what
    if isinstance(record, Mapping) and (blobs := record.get("blobs")) and isinstance(blobs, Mapping):
        return f"a model of Detectron (Caffe2), the predecessor of Detectron2; {TRAIN}"
    return f"this file contains {_shown(record)}"


def _name_weights(state: Mapping[str, Any], prefix: str) -> str | None:
    """What weights are whose names begin with a prefix; None if that is not known."""
    names = [str(key).removeprefix(prefix) for key in state if str(key).startswith(prefix)]
    for starts, what in NAMES:
        if all(any(name.startswith(start) for name in names) for start in starts):
            return what
    return None


def _name_pickled(path: str) -> str:
    for start, what in PACKAGES:
        if path.startswith(start):
            return f"{what} (class {path})"
    return f"a pickled object of class {path}, which contains code; {WEIGHTS_ALONE}"


def _shown(record: Any) -> str:
    """Its first names, or its type; a record with one entry is that entry."""
    if isinstance(record, Mapping) and len(record) == 1 and isinstance(inner := next(iter(record.values())), Mapping):
        return _shown(inner)
    if not isinstance(record, Mapping):
        return f"a {'tensor' if isinstance(record, Tensor) else type(record).__name__}"
    names = [str(key) for key in record][:4]
    return ", ".join(names) + (" ..." if len(record) > 4 else "") if names else "nothing"

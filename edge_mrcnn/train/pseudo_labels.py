"""Pseudo-labels of a teacher: objects of unlabelled images, and masks for given boxes.

Only confident detections become labels (Lee 2013; for detectors arXiv 1712.04440). The teacher's other outputs reach
the student by distillation on every region.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge_mrcnn.config import PseudoLabelConfig
from edge_mrcnn.data.coco import Annotation, CocoData, CocoImage
from edge_mrcnn.data.plausibility import box_iou
from edge_mrcnn.reference import TorchRuntime
from runtimes.errors import ImageError
from runtimes.postprocess import Region
from runtimes.preprocess import letterbox, read_image
from runtimes.progress import Progress, silent
from runtimes.run_lengths import encode_rle
from runtimes.types import Detections

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Labelled:
    """A data set with pseudo-labels, and their number."""

    data: CocoData
    kept: int
    """Number of pseudo-labelled objects, or of boxes that got a mask."""
    asked: int
    """Number of images, or boxes, that the teacher processed."""
    left_out: int
    """Number of images that were left out because of uncertain detections, or of boxes that do not agree with the
    teacher."""


def label_frames(
    teacher: TorchRuntime,
    data: CocoData,
    files: Sequence[Path],
    config: PseudoLabelConfig,
    *,
    progress: Progress = silent,
) -> Labelled:
    """A data set with further images, labelled by a teacher.

    An image with only uncertain detections is left out. One without any detection is kept: it is an example of
    background. Images that cannot be read are left out as well, with a log message.

    Args:
        teacher: A model with the classes of the data, and maybe others.
        data: The existing data; its classes are searched for.
        files: The images.
        config: Score thresholds.
        progress: Called after each image.
    """
    category_of = {name.casefold(): number for number, name in data.categories.items()}
    categories = [category_of.get(name.casefold()) for name in teacher.card.classes]
    first_image = 1 + max((image.id for image in data.images), default=0)
    first_object = 1 + max((one["id"] for objects in data.by_image.values() for one in objects), default=0)
    images, by_image, kept = [], dict(data.by_image), 0
    for number, file in enumerate(files):
        found = _find_objects(teacher, file, categories, config)
        progress("unlabelled pictures", number + 1, len(files))
        if found is None:
            continue
        height, width = found.image_size_hw
        image = CocoImage(first_image + number, file, width, height)
        objects = _describe(found, image, categories, first_object + kept)
        images.append(image)
        by_image[image.id] = objects
        kept += len(objects)
    everything = replace(data, images=(*data.images, *images), by_image=by_image)
    return Labelled(everything, kept, len(files), len(files) - len(images))


def _find_objects(
    teacher: TorchRuntime, file: Path, categories: Sequence[int | None], config: PseudoLabelConfig
) -> Detections | None:
    """The teacher's confident detections in an image; None if there are only uncertain ones, or the image cannot be
    read."""
    try:
        picture = read_image(file)
    except ImageError as error:
        log.warning("%s; it is left out", error)
        return None
    found = teacher.infer(picture, conf=config.pseudo_doubt)
    is_wanted = [categories[label] is not None for label in found.labels]
    found = found[np.array(is_wanted, bool)]
    is_sure = found.scores >= config.pseudo_score
    if len(found) and not is_sure.any():
        return None
    return found[is_sure]


def _describe(found: Detections, image: CocoImage, categories: Sequence[int | None], first_id: int) -> list[Annotation]:
    """Objects of an image in COCO's terms, without those whose mask covers no pixel."""
    objects: list[Annotation] = []
    for row, region in enumerate(found.masks.regions):
        if not region.mask.any():
            continue
        objects.append(
            {
                "id": first_id + len(objects),
                "image_id": image.id,
                "category_id": categories[found.labels[row]],
                "segmentation": encode_rle(region, found.image_size_hw),
                "bbox": list(bounds_xywh(region)),
                "area": float(np.count_nonzero(region.mask)),
                "iscrowd": 0,
                "score": round(float(found.scores[row]), 4),
            }
        )
    return objects


def outline_boxes(
    teacher: TorchRuntime, data: CocoData, config: PseudoLabelConfig, *, progress: Progress = silent
) -> Labelled:
    """A data set whose objects with only a box get the teacher's masks, if both agree.

    The teacher processes the given box itself. It agrees if it detects the given class there, and if its mask extends
    to all four sides of the box. Otherwise the object keeps only its box.

    Args:
        teacher: A model with the classes of the data, and maybe others.
        data: With objects whose `segmentation` is None.
        config: Thresholds for agreement.
        progress: Called after each image with such objects.

    Raises:
        ImageError: If an image cannot be read.
    """
    row_of = {name.casefold(): row for row, name in enumerate(teacher.card.classes)}
    rows = {number: row_of[name.casefold()] for number, name in data.categories.items()}
    images = [image for image in data.images if any(_has_box_only(one) for one in data.objects(image.id))]
    by_image, kept, asked = dict(data.by_image), 0, 0
    for number, image in enumerate(images):
        objects = data.objects(image.id)
        chosen = [one for one in objects if _has_box_only(one)]
        regions = _find_outlines(teacher, image, chosen, rows, config)
        outlined = iter(map(_outlined, chosen, regions, [(image.height, image.width)] * len(chosen)))
        by_image[image.id] = [next(outlined) if _has_box_only(one) else one for one in objects]
        asked += len(chosen)
        kept += sum(region is not None for region in regions)
        progress("pictures with boxes only", number + 1, len(images))
    return Labelled(replace(data, by_image=by_image), kept, asked, asked - kept)


def _has_box_only(annotation: Annotation) -> bool:
    return annotation["segmentation"] is None and not annotation["iscrowd"]


def _find_outlines(
    teacher: TorchRuntime,
    image: CocoImage,
    objects: Sequence[Annotation],
    rows: dict[int, int],
    config: PseudoLabelConfig,
) -> list[Region | None]:
    """The mask of each object of an image, None if teacher and box do not agree."""
    picture = read_image(image.path)
    tensor, view = letterbox(picture, teacher.card)
    boxes_xywh = np.array([one["bbox"] for one in objects], np.float32)
    boxes = np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], 1)
    labels = np.array([rows[one["category_id"]] for one in objects], np.int64)
    scale = np.array([view.scale_x, view.scale_y] * 2, np.float32)
    scores, masks = teacher.judge(tensor, boxes * scale, labels)
    judged = Detections(
        boxes_xyxy=boxes,
        scores=scores,
        labels=labels,
        mask_probs=masks,
        image_size_hw=picture.shape[:2],
        mask_offset_xy=view.map_offset(teacher.card.mask_offset),
        names=teacher.card.classes,
        category_ids=teacher.card.category_ids,
    )
    found: list[Region | None] = []
    for score, box_xywh, region in zip(scores, boxes_xywh, judged.masks.regions, strict=True):
        agrees = score >= config.pseudo_doubt and region.mask.any()
        agrees = agrees and box_iou(bounds_xywh(region), box_xywh.tolist()) >= config.pseudo_box_iou
        found.append(region if agrees else None)
    return found


def _outlined(annotation: Annotation, region: Region | None, size_hw: tuple[int, int]) -> Annotation:
    """The object with its mask; unchanged if there is none."""
    if region is None:
        return annotation
    area = float(np.count_nonzero(region.mask))
    return {**annotation, "segmentation": encode_rle(region, size_hw), "area": area}


def bounds_xywh(region: Region) -> tuple[float, float, float, float]:
    """The bounding box of a non-empty region, xywh in pixels of the image."""
    rows = np.flatnonzero(region.mask.any(axis=1))
    columns = np.flatnonzero(region.mask.any(axis=0))
    left, top = region.x + columns[0], region.y + rows[0]
    width, height = columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1
    return float(left), float(top), float(width), float(height)

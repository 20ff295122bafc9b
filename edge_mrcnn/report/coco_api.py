"""pycocotools, or a word on how to get it."""

from __future__ import annotations

from runtimes.errors import MissingExtraError

try:
    from pycocotools import mask as rle
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
except ModuleNotFoundError as error:
    raise MissingExtraError("pycocotools is needed to measure AP: pip install 'edge-mrcnn[report]'") from error

__all__ = ["COCO", "COCOeval", "rle"]

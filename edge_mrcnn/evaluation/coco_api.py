"""pycocotools' run-length code, or a word on how to get it. Its wheels exist for aarch64 too."""

from __future__ import annotations

from runtimes.errors import MissingExtraError

try:
    from pycocotools import mask as rle
except ModuleNotFoundError as error:
    raise MissingExtraError("pycocotools is needed to measure AP: pip install 'edge-mrcnn[report]'") from error

__all__ = ["rle"]

"""pycocotools' run-length code, or an error with advice on its installation. It has wheels for aarch64 as well."""

from __future__ import annotations

from runtimes.errors import MissingExtraError

try:
    from pycocotools import mask as rle
except ModuleNotFoundError as error:
    raise MissingExtraError("pycocotools is needed to measure AP: pip install 'edge-mrcnn[report]'") from error

__all__ = ["rle"]

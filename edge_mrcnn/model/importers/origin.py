"""What a user says of a checkpoint of another project, since the file itself does not say it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Says nothing by default. A checkpoint of our own says everything itself, and is not asked."""

    config: Path | None = None
    """Its configuration: Detectron2's config.yaml, or MMDetection's in Python."""
    classes: tuple[str, ...] | None = None
    """Names of its classes, in the order of its labels."""
    category_ids: tuple[int, ...] | None = None
    """The data set's own ids of `classes`."""

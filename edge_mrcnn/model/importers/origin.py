"""The user's information about a checkpoint of another project, which is not in the file itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Empty by default. Checkpoints of our own contain everything."""

    config: Path | None = None
    """Its configuration: Detectron2's config.yaml, or MMDetection's in Python."""
    classes: tuple[str, ...] | None = None
    """Names of its classes, in the order of its labels."""
    category_ids: tuple[int, ...] | None = None
    """The data set's ids of `classes`."""

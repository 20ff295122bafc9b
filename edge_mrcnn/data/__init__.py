"""Data sets of any layout, augmentation, loading, and the generator of scenes."""

from __future__ import annotations

from edge_mrcnn.data.loading import load

__all__ = ["load"]

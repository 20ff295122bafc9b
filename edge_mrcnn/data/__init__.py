"""Data sets of any layout, augmentation, loading, and the scene generator."""

from __future__ import annotations

from edge_mrcnn.data.loading import load

__all__ = ["load"]

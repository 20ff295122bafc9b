"""Options that several verbs share."""

from __future__ import annotations

import click

from runtimes.errors import UsageError


def image_size(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse "S" or "HxW" into (height, width)."""
    if value is None:
        return None
    parts = value.lower().split("x")
    if len(parts) > 2 or not all(p.isdecimal() for p in parts):
        raise UsageError(f"--imgsz {value}: expected S or HxW, such as 320 or 320x448")
    sides = [int(p) for p in parts]
    return sides[0], sides[-1]

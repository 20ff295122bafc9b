"""Names of sources for other programs: a metric's label or a message's topic is never a URL or a path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from runtimes.redaction import redact


def name_publicly(labels: Iterable[str]) -> dict[str, str]:
    """Map each label of a source to a public name of letters, digits, dots and hyphens, unique per source.

    A URL becomes its host and path, a file its name, joined with hyphens.
    """
    names: dict[str, str] = {}
    for label in labels:
        name, number = shorten(label), 1
        while name in names.values():
            number += 1
            name = f"{shorten(label)}-{number}"
        names[label] = name
    return names


def shorten(label: str) -> str:
    """The public name of one label."""
    if label.isdigit():
        return f"camera-{label}"
    return slug(_drop_secrets(label) if "://" in label else PurePath(label).name) or "source"


def slug(text: str) -> str:
    """Keep letters of any alphabet, digits, dots, underscores and hyphens; replace everything else by hyphens."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def _drop_secrets(url: str) -> str:
    """Host and path of a URL. Everything before the last "@" is treated as credentials."""
    rest = redact(url).partition("://")[2].rpartition("@")[2]
    host, _, path = re.split(r"[?#]", rest)[0].partition("/")
    return f"{re.sub(r':[0-9]+$', '', host)} {path}"

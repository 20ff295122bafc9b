"""Settings of a Detectron2 model: its configuration in YAML, and what its file itself says."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from runtimes.errors import MissingFileError, ModelFileError, one_line

CONFIG_NAME = "config.yaml"
"""Name of the configuration that Detectron2 writes beside its checkpoints."""
SECTION, BASE = "MODEL", "_BASE_"
"""Keys of which a configuration has at least one: the model's section, and the path of a base file."""

IMAGENET_RGB = (123.675, 116.28, 103.53)
"""ImageNet's mean, in Detectron2's usual numbers."""
ANCHORS = "proposal_generator.anchor_generator.cell_anchors."
"""Prefix of the anchors of each level, (A, 4) xyxy in pixels around 0."""


def find_beside(path: Path) -> dict[str, Any] | None:
    """The configuration that Detectron2 wrote beside a checkpoint, None if there is none or it is another tool's."""
    beside = path.with_name(CONFIG_NAME)
    if not beside.is_file():
        return None
    record = _load(beside)
    is_own = isinstance(record, dict) and ({SECTION, BASE} & set(record) or _is_lazy(record))
    return read_config(beside) if is_own else None


def read_config(path: Path, readers: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A configuration as written by Detectron2, or from its repository, with its base files.

    Args:
        path: Its path.
        readers: The files that it is a base of.

    Raises:
        MissingFileError: If it, or a base file, does not exist.
        ModelFileError: If it is not such a file, or its own base.
    """
    record = _load(path)
    if isinstance(record, dict) and _is_lazy(record):
        raise ModelFileError(f"{path}: a LazyConfig, which is Python code; expected the config.yaml of a yacs training")
    if not isinstance(record, dict) or not {SECTION, BASE} & set(record):
        raise ModelFileError(f"{path}: expected Detectron2's configuration with a MODEL section")
    if not (base := record.pop(BASE, None)):
        return record
    base_path = path.parent / Path(str(base)).expanduser()
    if base_path.resolve() in {reader.resolve() for reader in (*readers, path)}:
        raise ModelFileError(f"{path}: {BASE} leads back to {base}; expected a base file without this one")
    return merged(read_config(base_path, (*readers, path)), record)


def _load(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such configuration") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: expected the YAML that Detectron2 writes ({one_line(error)})") from error


def _is_lazy(record: Mapping[str, Any]) -> bool:
    """Whether a configuration is the YAML of Detectron2's configurations in Python."""
    return "_target_" in str(record.get("model", ""))


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Safe YAML in which a tuple of Python is a list."""


_PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", yaml.SafeLoader.construct_sequence)


def merged(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A nested dictionary with some values replaced."""
    result = dict(base)
    for key, value in changes.items():
        inner = result.get(key)
        result[key] = merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return result


def plain_value(value: Any) -> Any:
    """A value of a configuration; a string with a number, list or tuple is that value, as yacs reads "(10.0, 5.0)"."""
    if not isinstance(value, str):
        return value
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return list(found) if isinstance(found, tuple) else found


def own_settings(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the weights themselves say, as a configuration: until 0.4, Detectron2 saved pixel statistics and anchors.

    Args:
        state: Names -> tensors or arrays.
    """
    model: dict[str, Any] = {}
    found: dict[str, Any] = {"MODEL": model}
    if "pixel_mean" in state and "pixel_std" in state:
        model |= {"PIXEL_MEAN": _numbers(state["pixel_mean"]), "PIXEL_STD": _numbers(state["pixel_std"])}
        is_rgb = np.allclose(model["PIXEL_MEAN"], IMAGENET_RGB, atol=1.0)
        found["INPUT"] = {"FORMAT": "RGB" if is_rgb else "BGR"}
    anchors = [np.asarray(state[key], np.float64) for key in sorted(state) if key.startswith(ANCHORS)]
    if anchors:
        sizes = [boxes[:, 2:] - boxes[:, :2] for boxes in anchors]
        model["ANCHOR_GENERATOR"] = {
            "SIZES": [_distinct(np.sqrt(wh.prod(1))) for wh in sizes],
            "ASPECT_RATIOS": [_distinct(wh[:, 1] / wh[:, 0]) for wh in sizes],
        }
    return found


def _numbers(values: Any) -> list[float]:
    return [round(float(value), 4) for value in np.asarray(values).reshape(-1)]


def _distinct(values: Any) -> list[float]:
    """The distinct values in their order."""
    return list(dict.fromkeys(round(float(value), 3) for value in values))

"""Which importer a record is for, and with which configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_mrcnn.model.importers import detectron2_config, detectron2_file, mmdetection_file
from edge_mrcnn.model.importers.imported import Imported, check_anchors
from edge_mrcnn.model.importers.literals import read_literals
from edge_mrcnn.model.importers.origin import Origin
from edge_mrcnn.model.importers.unpacking import AVERAGES, PREFIXES, State, candidates
from runtimes.errors import UsageError

AVERAGED = "the file has both the last weights and their moving average (EMA); the average is used"


def import_record(path: Path, record: Any, origin: Origin) -> Imported | None:
    """A model of another project in our names, None if the record is of none that is known.

    Args:
        path: The file, for messages and for the configuration beside it.
        record: What the file holds.
        origin: What the user says of it.

    Raises:
        ModelFileError: If it is of a known project but has parts that have no counterpart here.
        MissingFileError, UsageError: If the configuration is not there or not that of the project.
    """
    for where, state in _unwrapped(record):
        if detectron2_file.is_own(state):
            found = detectron2_file.convert(path, state, _detectron2_config(path, origin))
        elif mmdetection_file.is_own(state):
            config = read_literals(_python(origin.config)) if origin.config else mmdetection_file.find_config(record)
            found = mmdetection_file.convert(path, state, config, mmdetection_file.find_classes(record))
        else:
            continue
        check_anchors(path, found)
        notes = (AVERAGED,) if where.partition(".")[0] in AVERAGES else ()
        return found.noting(*notes)
    return None


def _unwrapped(record: Any) -> Any:
    """Where weights may be in a record, and the weights, with and without what stands before their names."""
    for where, state in candidates(record):
        for prefix in PREFIXES:
            stripped: State = {key.removeprefix(prefix): v for key, v in state.items() if str(key).startswith(prefix)}
            if stripped and _are_weights(stripped):
                yield where, stripped


def _are_weights(state: Mapping[str, Any]) -> bool:
    return any(hasattr(value, "shape") for value in state.values())


def _detectron2_config(path: Path, origin: Origin) -> dict[str, Any] | None:
    """The configuration that was given, or the one that Detectron2 wrote beside the file."""
    if origin.config is None:
        return detectron2_config.find_beside(path)
    if origin.config.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--config {origin.config}: expected a Detectron2 config.yaml for {path.name}")
    return detectron2_config.read_config(origin.config)


def _python(config: Path) -> Path:
    if config.suffix != ".py":
        raise UsageError(f"--config {config}: expected an MMDetection configuration (.py) for this checkpoint")
    return config

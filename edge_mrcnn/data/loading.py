"""`load`: a split of a data set in any layout, read by one set of rules."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from edge_mrcnn.data.coco import CocoData
from edge_mrcnn.data.faults import FAULTS, Place
from edge_mrcnn.data.layouts import EXPECTED, SYNONYMS, WHOLE, SplitSource, find_layout
from edge_mrcnn.data.layouts.coco_json import json_source
from runtimes.errors import DataError, MissingFileError

log = logging.getLogger(__name__)


def load(path: str | Path, split: str = "val", *, learn_crowds: bool = False) -> CocoData:
    """Read a split of a data set.

    Args:
        path: A COCO JSON file, a `data.yaml`, or a folder in one of `layouts.LAYOUTS`.
        split: "train", "val" or another name; a single file, and a folder without splits, serve as every split.
        learn_crowds: Treat crowd regions as single objects; brush tools mark single objects this way.

    Raises:
        MissingFileError: If there is no such file or split.
        DataError: If the records have a fault that must be fixed.
    """
    from edge_mrcnn.data.plausibility import clean_records
    from edge_mrcnn.data.records import read_records

    source = find_source(path, split)
    records = read_records(source, split, learn_crowds=learn_crowds)
    records = clean_records(records, is_training=split == "train")
    refuse_errors(source.path, records.faults)
    tell_mended(source.path, records.faults)
    return records.to_data()


def find_source(path: str | Path, split: str) -> SplitSource:
    """Location of a split.

    Raises:
        MissingFileError: If there is no such file, folder or split.
    """
    path = Path(path)
    if path.is_file():
        return file_source(path, split)
    layout = find_layout(path)
    source: SplitSource | None = layout.find(path, split) or layout.find(path, WHOLE)
    if source is None:
        raise MissingFileError(f"{path}: {layout.TITLE} without a {split} split; give --val, or the JSON file itself")
    return source


def file_source(path: Path, split: str) -> SplitSource:
    """A split given by its file."""
    if path.suffix.casefold() not in (".yaml", ".yml"):
        return json_source("COCO JSON", path)
    from edge_mrcnn.data.layouts import yolo

    source = yolo.find_in(path, split)
    if source is None:
        raise MissingFileError(f"{path}: no {split} split; expected a folder with {EXPECTED}")
    return source


def has_split(path: str | Path, split: str) -> bool:
    """Whether a folder, or a `data.yaml`, has a split of this name."""
    path = Path(path)
    try:
        if path.is_file():
            return path.suffix.casefold() in (".yaml", ".yml") and file_source(path, split) is not None
        return find_layout(path).find(path, split) is not None
    except MissingFileError:
        return False


def is_data_set(folder: Path) -> bool:
    """Whether a folder is in a known layout."""
    try:
        find_layout(folder)
    except MissingFileError:
        return False
    return True


def describe_layout(path: str | Path) -> str:
    """The layout of a data set in words."""
    path = Path(path)
    if path.is_file():
        return file_source(path, "train").title
    layout = find_layout(path)
    found = (layout.find(path, split) for split in (*SYNONYMS, "test", WHOLE))
    return str(next(source.title for source in found if source))


def refuse_errors(path: Path, faults: Iterable[tuple[str, Place]]) -> None:
    """Stop at faults that must be fixed.

    Raises:
        DataError: If there is such a fault; names the first place, and the number of places.
    """
    errors = [(name, place) for name, place in faults if FAULTS[name].severity == "error"]
    if not errors:
        return
    name, place = errors[0]
    fault = FAULTS[name]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise DataError(f"{path}: {fault.title}: {place}{more}; {fault.advice}; `edge-mrcnn data check` lists all")


def tell_mended(path: Path, faults: Iterable[tuple[str, Place]]) -> None:
    """Log one line for each kind of fault that reading has handled."""
    places: dict[str, list[Place]] = defaultdict(list)
    for name, place in faults:
        places[name].append(place)
    for name, where in places.items():
        fault = FAULTS[name]
        if fault.done:
            log.warning("%s: %d x %s: %s, such as %s", path.name, len(where), fault.title, fault.done, where[0])

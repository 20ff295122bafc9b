"""The choice for a board, stored beside the models: `tuned.json`, one entry per kind of board.

A folder that cannot be written has its file in the user's state folder instead. An entry is valid for boards with the
same identity (model, processor, cores, instruction sets) and for the same file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from edge_mrcnn.measure.files import file_sha256
from edge_mrcnn.measure.surroundings import describe_packages
from runtimes.board import Board, read_board
from runtimes.errors import ModelFileError, UsageError
from runtimes.formats import FORMATS
from runtimes.home import user_folder
from runtimes.model_file import ModelFile
from runtimes.shipped import ShippedModel, find_shipped, model_file

FILE = "tuned.json"
FORMAT = "edge-mrcnn-tuned-1"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One model file and how to run it."""

    file: str
    """Its name in the folder."""
    sha256: str
    """Hash of all its files."""
    options: dict[str, Any]
    """Options of `runtimes.load`: threads, and for OpenVINO the precision of float layers."""
    board: dict[str, Any]
    """`Board.identity` of the board."""
    packages: dict[str, str]
    """Version of its SDK at that time."""
    created: str
    """ISO 8601 with time zone."""
    figures: dict[str, Any] = field(default_factory=dict)
    """What it is based on: latency_ms, fps, box_drop, mask_drop, max_drop, reference, data, images."""


def resolve_model(
    path: str | Path, runtime: str = "auto", *, threads: int | None = None, device: str | None = None
) -> tuple[Path, dict[str, Any]]:
    """The model file and options to open for a file or a folder.

    Args:
        path: A model file, which is used directly, a tuned folder, or the name of a bundled model.
        runtime: "auto" for the choice on this board; a key of `FORMATS` for the folder's model of that format, INT8
            before FP32.
        threads: CPU threads, in place of the chosen number.
        device: A public name, such as "cpu", in place of the chosen device.

    Returns:
        The model file, and options of `runtimes.load`.

    Raises:
        UsageError: If the folder was not tuned on such a board, or has changed since, or if a file needs another
            runtime.
    """
    file, options = _find(Path(path), runtime)
    asked = {"threads": threads, "device": device}
    return file, options | {name: value for name, value in asked.items() if value is not None}


def _find(path: Path, runtime: str) -> tuple[Path, dict[str, Any]]:
    """The model file, and the chosen options."""
    shipped = find_shipped(path)
    if shipped is not None:
        return _find_shipped(shipped, runtime)
    path = model_file(path)  # "people.onnx" also names a file
    if not path.is_dir():
        if runtime != "auto":
            _expect_runtime(path, runtime)
        return path, {}
    if runtime != "auto":
        return _pick(path, runtime), {}
    choice = read_choice(path)
    return path / choice.file, dict(choice.options)


def _find_shipped(model: ShippedModel, runtime: str) -> tuple[Path, dict[str, Any]]:
    """The file of a bundled model: the choice for this board, else that of the fastest installed runtime."""
    if runtime != "auto":
        return model.file_for(runtime), {}
    was_tuned = any(place.is_file() for place in _places(model.folder))
    if not was_tuned:
        return model.best_file(), {}
    choice = read_choice(model.folder)
    return model.folder / choice.file, dict(choice.options)


def _expect_runtime(path: Path, runtime: str) -> None:
    """Raise UsageError unless a file runs with this runtime; for a single file there is no choice."""
    format_ = ModelFile(path).format
    if format_.name != runtime:
        raise UsageError(
            f"--runtime {runtime}: {path} runs with {format_.name}; remove the option, or give a folder with a "
            f"{FORMATS[runtime].suffix} too"
        )


def read_choice(folder: Path, board: Board | None = None) -> Choice:
    """The choice for a board.

    Args:
        folder: Folder of the models.
        board: The board; this machine if None.

    Raises:
        UsageError: If there is no choice, or only for other boards, or if the file has changed.
        ModelFileError: If the record is damaged.
    """
    board = board or read_board()
    advice = f"run `edge-mrcnn tune --models {folder} --data VAL.json` here, or give one of its files"
    source = next((path for path in _places(folder) if path.is_file()), None)
    if source is None:
        raise UsageError(f"{folder}: no tuning record in this folder: {advice}")
    choices = _read(source)
    choice = next((c for c in choices if c.board == board.identity), None)
    if choice is None:
        others = ", ".join(str(c.board.get("model")) for c in choices) or "no board"
        raise UsageError(f"{source}: tuned on {others}, but this is {board}: {advice}")
    model = folder / choice.file
    if not model.is_file() or file_sha256(model) != choice.sha256:
        raise UsageError(f"{model}: has changed since it was tuned: {advice}")
    _warn_of_versions(model, choice)
    return choice


def write_choice(folder: Path, choice: Choice) -> Path:
    """Store a choice beside the models, in place of an older one for the same board.

    Returns:
        The file that was written.
    """
    for path in _places(folder):
        earlier = _read(path) if path.is_file() else []
        others = [other for other in earlier if other.board != choice.board]
        record = {"format": FORMAT, "choices": [asdict(one) for one in (*others, choice)]}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            log.info("%s: cannot be written: %s", path, error.strerror)
            continue
        return path
    raise UsageError(f"{folder}: neither this folder nor {_state_folder()} can be written")


def sdk_versions(path: Path) -> dict[str, str]:
    """Packages that run a model file, with their versions."""
    return describe_packages(ModelFile(path).format.packages)


def _places(folder: Path) -> Iterable[Path]:
    """Possible places of a choice, the preferred one first."""
    digest = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return folder / FILE, _state_folder() / f"tuned-{digest}.json"


def _state_folder() -> Path:
    """Source: XDG Base Directory Specification, 0.8."""
    return user_folder("XDG_STATE_HOME", ".local/state") / "edge-mrcnn"


def _read(path: Path) -> list[Choice]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] != FORMAT:
            raise ModelFileError(
                f"{path}: has format {record['format']}, but this version reads format {FORMAT}: tune again"
            )
        return [_read_entry(entry) for entry in record["choices"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{path}: not a record that `edge-mrcnn tune` wrote: tune again") from error


def _read_entry(entry: dict[str, Any]) -> Choice:
    """One choice; fields of a later version are ignored."""
    known = {field.name for field in fields(Choice)}
    return Choice(**{name: value for name, value in entry.items() if name in known})


def _warn_of_versions(model: Path, choice: Choice) -> None:
    now = sdk_versions(model)
    for name, version in choice.packages.items():
        if now.get(name) not in (version, None):
            log.warning("%s was tuned with %s %s, this is %s: tune again", choice.file, name, version, now[name])


def _pick(folder: Path, runtime: str) -> Path:
    """The folder's only model of a format, or its only INT8 model of it.

    Raises:
        UsageError: If there is none, or more than one.
    """
    suffix = FORMATS[runtime].suffix
    found = sorted(folder.glob(f"*{suffix}"))
    if not found:
        raise UsageError(f"{folder}: no {suffix} file in this folder")
    if len(found) == 1:
        return found[0]
    int8 = [path for path in found if ModelFile(path).card.precision == "int8"]
    if len(int8) != 1:
        raise UsageError(f"{folder}: expected one {suffix} file; give one of {', '.join(path.name for path in found)}")
    return int8[0]

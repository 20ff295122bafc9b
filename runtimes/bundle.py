"""One file for a model and its companion files: card, golden tensors, calibration manifest, report.

A bundle is a ZIP archive without compression. `manifest.json` in it lists each file with its SHA-256, and the comment
of the archive is the seal of the whole. Only files of the manifest are read. Names that lead outside, duplicate
entries, and entries that unpack to more than their size are refused before anything is written.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtimes.errors import MissingFileError, ModelFileError, UnknownFormatError
from runtimes.formats import files_of
from runtimes.formats.base import ZIP_SEAL
from runtimes.home import user_folder
from runtimes.seal import check_seal, write_seal

SUFFIX = ".embundle"
MANIFEST = "manifest.json"
MODEL_FOLDER = "model/"
MAX_BYTES = 2_000_000_000
"""Maximum size of a bundle."""
MAX_FILES = 2000
_NAME = re.compile(r"[\w .()+,=@-]+(/[\w .()+,=@-]+)*")
"""Plain names separated by forward slashes; `..` is refused separately."""
_MANIFEST_BYTES = 1_000_000
_YEAR_ZERO = (1980, 1, 1, 0, 0, 0)
"""Time of every entry, so that equal contents make equal bundles."""


@dataclass(frozen=True)
class Entry:
    """One file in a bundle."""

    name: str
    """Path inside the bundle, with forward slashes."""
    bytes: int
    """Size in bytes."""
    sha256: str
    """SHA-256 of its content, hexadecimal."""


@dataclass(frozen=True)
class Manifest:
    """The content of a bundle."""

    model: str
    """Name of the file that `runtimes.load` opens."""
    files: tuple[Entry, ...]
    """All files but the manifest."""
    format_version: int = 1

    def to_json(self) -> str:
        """As one JSON object."""
        return json.dumps(asdict(self), indent=1, sort_keys=True)


def is_bundle(path: str | Path) -> bool:
    """Whether a path has the suffix of a bundle."""
    return Path(path).suffix == SUFFIX


def write_bundle(model: str | Path, output: str | Path, extras: Mapping[str, bytes]) -> Manifest:
    """Pack a model file and its companion files into one file.

    Args:
        model: A model file with a valid seal; its companions are included.
        output: Output file.
        extras: Name in the bundle, with forward slashes -> content.

    Raises:
        ModelFileError, MissingFileError: As `check_seal` does, or if a name cannot be in a bundle.
    """
    model = Path(model)
    check_seal(model)
    contents = {MODEL_FOLDER + file.name: file.read_bytes() for file in files_of(model)} | dict(extras)
    entries = tuple(Entry(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents.items())
    manifest = Manifest(MODEL_FOLDER + model.name, entries)
    _check_names(output, manifest)
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {MANIFEST: manifest.to_json().encode(), **contents}.items():
            archive.writestr(zipfile.ZipInfo(name, _YEAR_ZERO), data)
        archive.comment = ZIP_SEAL.blank
    write_seal(output, ZIP_SEAL)
    return manifest


def read_manifest(path: str | Path) -> Manifest:
    """The manifest of a bundle; its seal is checked.

    Raises:
        MissingFileError: If there is no such file.
        ModelFileError: If it is damaged or not a bundle.
    """
    path = Path(path)
    _check_file(path)
    with _opened(path) as archive:
        return _read_manifest(path, archive)


def read_entry(path: str | Path, name: str) -> bytes:
    """The content of one file in a bundle, with its hash checked; raises as `read_manifest` does."""
    path = Path(path)
    _check_file(path)
    with _opened(path) as archive:
        manifest = _read_manifest(path, archive)
        entry = next((entry for entry in manifest.files if entry.name == name), None)
        if entry is None:
            raise ModelFileError(f"{path}: contains no {name}, only {', '.join(e.name for e in manifest.files)}")
        return _read(path, archive, entry)


def unpack_model(path: str | Path, folder: Path) -> Path:
    """Write the model file of a bundle, with its weights, into a folder; raises as `read_manifest` does.

    Returns:
        The model file.
    """
    path = Path(path)
    _check_file(path)
    with _opened(path) as archive:
        manifest = _read_manifest(path, archive)
        for entry in manifest.files:
            if entry.name.startswith(MODEL_FOLDER):
                (folder / Path(entry.name).name).write_bytes(_read(path, archive, entry))
    return folder / Path(manifest.model).name


def model_file(path: str | Path) -> Path:
    """The model file of a path: the path itself, or the model inside a bundle.

    A bundle is unpacked once, below the user's cache folder; the seal of the model file protects the unpacked copy.
    """
    path = Path(path)
    if not is_bundle(path):
        return path
    _check_file(path)
    state = path.stat()
    return _unpack_once(path.resolve(), state.st_mtime_ns, state.st_size)


@functools.cache
def _unpack_once(path: Path, changed_ns: int, size: int) -> Path:
    """See `model_file`; time and size distinguish a bundle from a newer one with the same name."""
    try:
        folder = _cache_folder() / hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # the file system may be read-only, as on many cameras
        kept = tempfile.TemporaryDirectory(prefix="edge-mrcnn-")
        atexit.register(kept.cleanup)
        folder = Path(kept.name)
    model = folder / Path(read_manifest(path).model).name
    return model if model.is_file() and _is_whole(model) else unpack_model(path, folder)


def _cache_folder() -> Path:
    """Source: XDG Base Directory Specification, 0.8."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "edge-mrcnn" / "bundles"


def _is_whole(model: Path) -> bool:
    try:
        check_seal(model)
    except (ModelFileError, MissingFileError, UnknownFormatError):
        return False
    return True


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"{path}: no such bundle")
    if path.stat().st_size > MAX_BYTES:
        raise ModelFileError(f"{path}: a bundle of more than {MAX_BYTES:,} bytes is not read")
    check_seal(path, ZIP_SEAL)


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelFileError(f"{path}: not a bundle, or a damaged one: {error}") from error


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    """The manifest, which must list exactly the files of the archive."""
    found = {info.filename: info for info in archive.infolist()}
    if MANIFEST not in found or found[MANIFEST].file_size > _MANIFEST_BYTES:
        raise ModelFileError(f"{path}: not a bundle of edge-mrcnn: it has no {MANIFEST}")
    if any(i.compress_type != zipfile.ZIP_STORED or i.flag_bits & 1 for i in found.values()):
        raise ModelFileError(f"{path}: expected a bundle with uncompressed files, this one is compressed or encrypted")
    manifest = _parse(path, archive.read(MANIFEST))
    _check_names(path, manifest)
    listed = {entry.name: entry.bytes for entry in manifest.files}
    there = {name: info.file_size for name, info in found.items() if name != MANIFEST}
    if listed != there or len(archive.infolist()) != len(found):
        raise ModelFileError(f"{path}: the bundle's files differ from those that its manifest lists")
    return manifest


def _parse(path: Path, text: bytes) -> Manifest:
    try:
        record: dict[str, Any] = json.loads(text)
        version = int(record["format_version"])
        files = tuple(Entry(str(f["name"]), int(f["bytes"]), str(f["sha256"])) for f in record["files"])
        manifest = Manifest(str(record["model"]), files, version)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{path}: the manifest of the bundle cannot be read") from error
    if version > Manifest.format_version:
        raise ModelFileError(f"{path}: bundle version {version} is newer than this edge-mrcnn: update it")
    return manifest


def _check_names(path: str | Path, manifest: Manifest) -> None:
    """Raise unless every name stays inside the bundle and the model is listed."""
    names = [entry.name for entry in manifest.files]
    odd = [name for name in names if not _NAME.fullmatch(name) or set(name.split("/")) & {".", ".."}]
    if odd:
        raise ModelFileError(f"{path}: a file in a bundle cannot be named {odd[0]!r}")
    models = [name for name in names if name.startswith(MODEL_FOLDER) and name.count("/") == 1]
    if manifest.model not in models or len(set(names)) != len(names) or len(names) > MAX_FILES:
        raise ModelFileError(f"{path}: the manifest of the bundle lists {len(names)} files, but not exactly one model")


def _read(path: Path, archive: zipfile.ZipFile, entry: Entry) -> bytes:
    try:
        data = archive.read(entry.name)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ModelFileError(f"{path}: {entry.name} in the bundle is damaged: {error}") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise ModelFileError(f"{path}: {entry.name} in the bundle is damaged: its hash differs from the manifest")
    return data

"""Calibration sets: the images for measuring INT8 ranges.

A set is a folder with a `manifest.json` that lists each image, its hash, its source and the reason for its selection;
`calib_data/README.md` documents the format. A plain folder of images and the training split of a COCO data set can be
used as well. Images are read one at a time and processed by `runtimes.preprocess`, as camera frames are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

import runtimes
from quantize.coco_folder import image_folder
from runtimes.errors import DataError, MissingFileError, UsageError
from runtimes.image_header import read_size
from runtimes.model_card import ModelCard
from runtimes.model_file import ModelFile
from runtimes.preprocess import letterbox, read_image
from runtimes.sources import IMAGE_SUFFIXES

Image = NDArray[np.uint8]

MANIFEST_NAME = "manifest.json"
MANIFEST_VERSION = 1
"""Readers refuse a newer version."""


@dataclass(frozen=True, kw_only=True)
class CalibrationEntry:
    """One image of a manifest."""

    file: str
    """Path relative to the manifest, with forward slashes."""
    sha256: str
    """Hash of the file, 64 hexadecimal digits."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    source: str
    """Source of the image: camera, data set and id, or how it was generated."""
    licence: str
    """Its licence."""
    why: str
    """Its contribution to the set: a brightness, a size of object, an empty view."""


@dataclass(frozen=True)
class CalibrationSet:
    """Images for measuring INT8 ranges."""

    path: Path
    """The manifest, folder or annotation file that was loaded."""
    files: tuple[Path, ...]
    """The images, never empty."""
    manifest_sha256: str
    """Hash of the manifest file, or of the images' names and sizes in bytes without a manifest."""

    @classmethod
    def load(cls, path: str | Path) -> CalibrationSet:
        """Open a calibration set.

        Args:
            path: A manifest, a folder with a `manifest.json`, a COCO annotation file, a folder with
                `annotations/instances_train.json` (its train split is used), or a folder of images.

        Raises:
            MissingFileError: If the path or a listed image does not exist.
            DataError: If a list cannot be read, has no image, or an image differs from its manifest.
        """
        path = Path(path)
        if not path.exists():
            raise MissingFileError(f"{path}: no such calibration set; expected a manifest.json, pictures or COCO data")
        if path.is_dir():
            path = _find_list(path)
        return _from_folder(path) if path.is_dir() else _from_list(path)

    @classmethod
    def of_files(cls, folder: Path, files: Sequence[Path]) -> CalibrationSet:
        """A set of images selected elsewhere.

        Args:
            folder: Folder of their data set, for messages; the hash uses their names relative to it.
            files: The images.

        Raises:
            MissingFileError: If one does not exist.
            DataError: If there are none.
        """
        return _from_files(folder, list(files), folder)

    def __len__(self) -> int:
        return len(self.files)

    def images(self, limit: int | None = None, seed: int = 0) -> Iterator[Image]:
        """Read images one at a time.

        Args:
            limit: Maximum number, chosen at random; all if None.
            seed: Random seed of the choice.

        Yields:
            (h, w, 3) uint8 RGB.

        Raises:
            UsageError: If the limit is below one.
            ImageError: If an image cannot be decoded.
        """
        return (read_image(file) for file in self.choose(limit, seed))

    def tensors(self, card: ModelCard, limit: int | None = None, seed: int = 0) -> Iterator[Image]:
        """The input tensors of a model, one at a time: (1, H, W, 3) uint8 RGB, letterboxed according to the card.

        Arguments and errors are those of `images`.
        """
        return (letterbox(image, card)[0] for image in self.images(limit, seed))

    def tensors_with_objects(
        self, model: str | Path | ModelFile, limit: int | None = None, seed: int = 0
    ) -> Iterator[Image]:
        """Those of `tensors` with detections of a model, so that its mask head can be measured.

        A model with batch size N gets each image N times: (N, H, W, 3).

        Args:
            model: The FP32 model file.
            limit: Maximum number of images to process; all if None.
            seed: Random seed of the choice.

        Raises:
            DataError: If there are no detections in any of them.
        """
        found = 0
        file = ModelFile(model)
        with runtimes.load(file) as runtime:
            for tensor in self.tensors(runtime.card, limit, seed):
                if (runtime.run(tensor).scores > 0).any():
                    found += 1
                    yield np.repeat(tensor, runtime.card.batch, axis=0)
        if not found:
            raise DataError(
                f"{self.path}: {file.name} detects nothing in these images; calibrate with images that show objects"
            )

    def choose(self, limit: int | None = None, seed: int = 0) -> list[Path]:
        """The files that `images` reads, in the set's order."""
        if limit is not None and limit < 1:
            raise UsageError(f"expected at least 1 calibration image, got a limit of {limit}")
        count = len(self.files)
        picked = np.random.default_rng(seed).permutation(count)[: count if limit is None else limit]
        return [self.files[index] for index in sorted(picked)]


def describe_image(folder: str | Path, file: str, *, source: str, licence: str, why: str) -> CalibrationEntry:
    """The manifest's entry of an image in the set's folder.

    Raises:
        MissingFileError: If it does not exist.
        DataError: If it is not an image.
    """
    path = Path(folder) / file
    digest, (height, width) = _measure(path)
    return CalibrationEntry(
        file=PurePosixPath(file).as_posix(),
        sha256=digest,
        width=width,
        height=height,
        source=source,
        licence=licence,
        why=why,
    )


def write_manifest(folder: str | Path, entries: Iterable[CalibrationEntry]) -> Path:
    """Write `manifest.json` into the set's folder and return its path.

    Raises:
        DataError: If there are no entries.
    """
    images = [asdict(entry) for entry in entries]
    path = Path(folder) / MANIFEST_NAME
    if not images:
        raise DataError(f"{path}: expected at least one calibration image, got none")
    text = json.dumps({"version": MANIFEST_VERSION, "images": images}, indent=1, ensure_ascii=False)
    # written as bytes, so that line ends, and with them the hash, are the same on all systems
    path.write_bytes(f"{text}\n".encode())
    return path


def read_manifest(path: str | Path) -> tuple[CalibrationEntry, ...]:
    """The entries of a manifest; the images are not opened.

    Raises:
        DataError: If it is not a manifest of a known version, or an entry is incomplete or leaves its folder.
    """
    return _parse_manifest(Path(path), _read_json(Path(path)))


def _find_list(folder: Path) -> Path:
    """The manifest or the annotation file of a folder, else the folder itself."""
    candidates = (folder / MANIFEST_NAME, folder / "annotations" / "instances_train.json")
    return next((file for file in candidates if file.is_file()), folder)


def _from_folder(folder: Path) -> CalibrationSet:
    files = sorted(f for f in folder.rglob("*") if f.suffix.lower() in IMAGE_SUFFIXES and f.is_file())
    return _from_files(folder, files, folder)


def _from_list(path: Path) -> CalibrationSet:
    record = _read_json(path)
    if isinstance(record, dict) and "annotations" in record:
        return _from_coco(path, record)
    entries = _parse_manifest(path, record)
    for entry in entries:
        _verify(path, entry)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return CalibrationSet(path, tuple(path.parent / entry.file for entry in entries), digest)


def _from_coco(path: Path, record: dict[str, Any]) -> CalibrationSet:
    folder = image_folder(path)
    try:
        files = [folder / image["file_name"] for image in record["images"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: expected COCO annotations whose images have a file_name") from error
    return _from_files(path, files, folder)


def _from_files(path: Path, files: list[Path], folder: Path) -> CalibrationSet:
    if not files:
        raise DataError(f"{path}: no calibration images; expected 100 to 300 from your camera or training split")
    lines = []
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"{file}: image not found, but {path} lists it")
        relative = Path(os.path.relpath(file, folder)).as_posix()
        lines.append(f"{relative} {file.stat().st_size}")
    listing = "\n".join(lines)
    return CalibrationSet(path, tuple(files), hashlib.sha256(listing.encode()).hexdigest())


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such manifest") from error
    except ValueError as error:
        raise DataError(f"{path}: expected a calibration manifest or COCO annotations in JSON") from error


def _parse_manifest(path: Path, record: Any) -> tuple[CalibrationEntry, ...]:
    if not isinstance(record, dict) or "version" not in record or not isinstance(record.get("images"), list):
        raise DataError(f'{path}: expected a manifest {{"version": 1, "images": [...]}}, see calib_data/README.md')
    if record["version"] != MANIFEST_VERSION:
        raise DataError(f"{path}: manifest version {record['version']}, expected {MANIFEST_VERSION}: update edge-mrcnn")
    if not record["images"]:
        raise DataError(f"{path}: the manifest lists no images; write a new one")
    return tuple(_parse_entry(path, index, image) for index, image in enumerate(record["images"]))


def _parse_entry(path: Path, index: int, image: Any) -> CalibrationEntry:
    names = [field.name for field in fields(CalibrationEntry)]
    given = image if isinstance(image, dict) else {}
    missing = [name for name in names if name not in given]
    if missing:
        raise DataError(f"{path}: entry {index} lacks {', '.join(missing)}")
    entry = CalibrationEntry(**{name: given[name] for name in names})
    relative = PurePosixPath(str(entry.file))
    if relative.is_absolute() or ".." in relative.parts:
        raise DataError(f"{path}: entry {index} names {entry.file}, expected a path inside the manifest's folder")
    return entry


def _verify(path: Path, entry: CalibrationEntry) -> None:
    file = path.parent / entry.file
    digest, (height, width) = _measure(file)
    if digest != entry.sha256:
        raise DataError(f"{file}: its hash differs from {path.name}; restore the image or write a new manifest")
    if (height, width) != (entry.height, entry.width):
        stated = f"{entry.width} x {entry.height}"
        raise DataError(f"{file}: {width} x {height} pixels, but {path.name} says {stated}; write it again")


def _measure(file: Path) -> tuple[str, tuple[int, int]]:
    """Hash, height and width in pixels of an image."""
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise MissingFileError(f"{file}: no such calibration image") from error
    size = read_size(data)
    if size is None:
        raise DataError(f"{file}: expected an image; this file is damaged or of another type")
    return hashlib.sha256(data).hexdigest(), size

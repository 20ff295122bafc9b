"""A model file as an object: its name, files, format, card and golden tensors. Needs no SDK."""

from __future__ import annotations

import hashlib
import importlib
from functools import cached_property
from pathlib import Path
from typing import Any

from runtimes import shipped
from runtimes.base import refusing
from runtimes.bundle import is_bundle, model_file
from runtimes.errors import MissingExtraError, MissingFileError, ModelFileError, UnknownFormatError, UsageError
from runtimes.formats import files_of, format_of, suffixes
from runtimes.formats.base import Notes
from runtimes.model_card import ModelCard, missing_card
from runtimes.seal import check_seal, write_seal

COPY_BYTES = 1 << 20
"""Bytes that are hashed at a time."""


class ModelFile:
    """A model file, a bundle, a folder with one model file, or the name of a bundled model.

    Messages and records use the name that the user gave, never the path of an unpacked bundle.
    """

    def __init__(self, path: str | Path | ModelFile) -> None:
        """Find the file; it is not opened.

        Raises:
            MissingFileError: If there is no such file.
            UnknownFormatError: If no runtime opens files of this suffix, or a folder contains none or several.
            ModelFileError: If a bundle is damaged.
        """
        given: Path = path.given if isinstance(path, ModelFile) else shipped.model_file(path)
        self.given: Path = _only_model(given) if given.is_dir() else given
        """The path that the user gave; for a folder, the file in it."""
        if not is_bundle(self.given):
            # the name is checked first: an unsupported suffix is the better message for a missing file
            format_of(self.given)
            if not self.given.is_file():
                raise MissingFileError(f"{self.given}: no such model file")
        self.path = model_file(self.given)
        """The file that an SDK opens; for a bundle, the unpacked one."""
        self.format = format_of(self.path, name=self)
        """Format of the file."""

    def __str__(self) -> str:
        return str(self.given)

    def __repr__(self) -> str:
        return f"ModelFile({str(self)!r})"

    @property
    def name(self) -> str:
        """File name of the path that the user gave."""
        return self.given.name

    @property
    def is_bundle(self) -> bool:
        """Whether the model comes from a bundle, which cannot be changed."""
        return is_bundle(self.given)

    @property
    def files(self) -> tuple[Path, ...]:
        """The user's files: the model file and its existing companions, or the bundle."""
        return files_of(self.given)

    @property
    def size_bytes(self) -> int:
        """Total size of `files`, in bytes."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash over all `files`, hexadecimal."""
        return hash_files(self.files)

    @property
    def card(self) -> ModelCard:
        """The model card.

        Raises:
            ModelFileError: If it is damaged or was not made by edge-mrcnn.
            MissingFileError: If a companion file is missing.
        """
        card = self._notes.card
        if card is None:
            raise missing_card(self)
        with refusing(self, "its model card is damaged"):
            return ModelCard.from_json(card)

    @property
    def golden(self) -> bytes | None:
        """The golden tensors, see `runtimes.golden`; None if there are none. Raises as `card` does."""
        if self._notes.card is None:
            raise missing_card(self)
        return self._notes.golden

    def write_card(self, card: ModelCard) -> None:
        """Write a card into the file, in place of an earlier one, and seal it. Golden tensors are removed, because they
        belong to another model.

        Raises:
            UsageError: If this is a bundle.
            ModelFileError: If this is not a file of its format.
        """
        self._write(Notes(card.to_json()))

    def write_golden(self, data: bytes | None) -> None:
        """Write golden tensors into the file, in place of earlier ones, and seal it; None removes them.

        Raises as `write_card` and `card` do.
        """
        self._write(Notes(self.card.to_json(), data))

    @property
    def state(self) -> tuple[tuple[int, int], ...]:
        """Modification time in nanoseconds and size of each file that an SDK opens; hashing would take too long."""
        return tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files_of(self.path))

    def expect(self, state: tuple[tuple[int, int], ...]) -> None:
        """Raise ModelFileError if the files have changed: another model was copied over them."""
        if self.state != state:
            raise ModelFileError(f"{self}: the file has changed since it was opened; load it again")

    def read(self) -> bytes:
        """The content of the model file. Raises as `card` does."""
        return check_seal(self.path, name=self)

    def seal(self) -> None:
        """Seal the file after a change."""
        write_seal(self.path)
        self.__dict__.pop("_notes", None)

    def rename(self, target: str | Path) -> ModelFile:
        """Rename the file and its companions; an existing file of that name is replaced.

        Args:
            target: New path, with the same suffix.

        Returns:
            The file under its new name.

        Raises:
            UsageError: If the suffix is another one.
        """
        target = Path(target)
        if target.suffix != self.given.suffix:
            raise UsageError(f"{target}: expected a name that ends in {self.given.suffix}, as {self.name} does")
        for file in self.files:
            file.replace(target.with_suffix(file.suffix))
        return ModelFile(target)

    def beside(self, ending: str) -> Path:
        """Path of a derived file: best.onnx and "-int8" give best-int8.onnx."""
        return self.given.with_name(f"{self.given.stem}{ending}{self.format.suffix}")

    def import_backend(self) -> Any:
        """The module that opens this file; its SDK is imported only now.

        Raises:
            MissingExtraError: If the SDK is not installed.
        """
        try:
            return importlib.import_module(self.format.backend)
        except ModuleNotFoundError as error:
            extra = f"pip install 'edge-mrcnn[{self.format.extra}]'"
            raise MissingExtraError(f"{self}: {error.name} is not installed: {extra}") from error

    @cached_property
    def _notes(self) -> Notes:
        data = self.read()
        with refusing(self, "it cannot be read"):
            return self.format.read_notes(data)

    def _write(self, notes: Notes) -> None:
        if self.is_bundle:
            raise UsageError(f"{self}: a bundle cannot be changed; change the model and make a new bundle")
        data = self.path.read_bytes()
        with refusing(self, f"it is not a {self.format.suffix} file"):
            changed = self.format.write_notes(data, notes)
        self.path.write_bytes(changed)
        self.seal()


def hash_files(files: tuple[Path, ...]) -> str:
    """SHA-256 over several files in order, hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(COPY_BYTES):
                digest.update(block)
    return digest.hexdigest()


def find_model_files(folder: Path) -> list[Path]:
    """The model files in a folder, by name, without bundles."""
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes())


def _only_model(folder: Path) -> Path:
    models = find_model_files(folder)
    if len(models) == 1:
        return models[0]
    kinds = ", ".join(suffixes())
    hint = f"give one of {', '.join(model.name for model in models)}" if models else f"it holds no {kinds}"
    raise UnknownFormatError(f"{folder}: expected a model file, got a folder; {hint}")

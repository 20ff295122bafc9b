"""A model file as an object: what its user called it, the files that it is, its format and what is noted in it.

Nothing here needs an SDK.
"""

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
    """A model file, a bundle with one, a folder that holds no other, or the name of a model that comes along.

    Messages and records call it by the name that the user gave; where a bundle was unpacked is nobody's business.
    """

    def __init__(self, path: str | Path | ModelFile) -> None:
        """Find the file; it is not opened.

        Raises:
            MissingFileError: If there is no such file.
            UnknownFormatError: If no runtime opens files of this suffix, or a folder holds none or several.
            ModelFileError: If a bundle is damaged.
        """
        given: Path = path.given if isinstance(path, ModelFile) else shipped.model_file(path)
        self.given: Path = _only_model(given) if given.is_dir() else given
        """What the user named; of a folder the file in it."""
        if not is_bundle(self.given):
            format_of(self.given)  # a name that no runtime opens is wrong before it is missing
            if not self.given.is_file():
                raise MissingFileError(f"{self.given}: no such model file")
        self.path = model_file(self.given)
        """The file that an SDK opens; of a bundle the one that was unpacked."""
        self.format = format_of(self.path, name=self)
        """What kind of file it is."""

    def __str__(self) -> str:
        return str(self.given)

    def __repr__(self) -> str:
        return f"ModelFile({str(self)!r})"

    @property
    def name(self) -> str:
        """File name of what the user named."""
        return self.given.name

    @property
    def is_bundle(self) -> bool:
        """Whether the model comes out of a bundle, which is not changed."""
        return is_bundle(self.given)

    @property
    def files(self) -> tuple[Path, ...]:
        """The user's files: the model file and those that belong to it as far as they are there, or the bundle."""
        return files_of(self.given)

    @property
    def size_bytes(self) -> int:
        """Bytes of all `files`."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def sha256(self) -> str:
        """Hash over all `files`, in hexadecimal."""
        return hash_files(self.files)

    @property
    def card(self) -> ModelCard:
        """What the file says of itself.

        Raises:
            ModelFileError: If it is damaged or was not made by edge-mrcnn.
            MissingFileError: If a file that belongs to it is not there.
        """
        card = self._notes.card
        if card is None:
            raise missing_card(self)
        with refusing(self, "its model card is damaged"):
            return ModelCard.from_json(card)

    @property
    def golden(self) -> bytes | None:
        """Its golden tensors, see `runtimes.golden`; None where it has none. Raises as `card` does."""
        if self._notes.card is None:
            raise missing_card(self)
        return self._notes.golden

    def write_card(self, card: ModelCard) -> None:
        """Put a card into the file, in place of the one that it may have, and seal it.

        Golden tensors go, being of another model.

        Raises:
            UsageError: If this is a bundle.
            ModelFileError: If this is not a file of its format.
        """
        self._write(Notes(card.to_json()))

    def write_golden(self, data: bytes | None) -> None:
        """Put golden tensors into the file, in place of those that it may have, and seal it; None takes them out.

        Raises as `write_card` and `card` do.
        """
        self._write(Notes(self.card.to_json(), data))

    @property
    def state(self) -> tuple[tuple[int, int], ...]:
        """Time of the last change, in nanoseconds, and size of each file that an SDK opens: hashing takes too long."""
        return tuple((file.stat().st_mtime_ns, file.stat().st_size) for file in files_of(self.path))

    def expect(self, state: tuple[tuple[int, int], ...]) -> None:
        """Raise ModelFileError if the files are no longer in this state: another model was copied over them."""
        if self.state != state:
            raise ModelFileError(f"{self}: it changed since it was opened: load it again")

    def read(self) -> bytes:
        """The content of the model file. Raises as `card` does."""
        return check_seal(self.path, name=self)

    def seal(self) -> None:
        """Seal the file after it was changed."""
        write_seal(self.path)
        self.__dict__.pop("_notes", None)

    def rename(self, target: str | Path) -> ModelFile:
        """Give the file, and those that belong to it, another name; one of that name is replaced.

        Args:
            target: Where it goes, with the same suffix.

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
        """Where a file made from this one goes: best.onnx and "-int8" give best-int8.onnx."""
        return self.given.with_name(f"{self.given.stem}{ending}{self.format.suffix}")

    def import_backend(self) -> Any:
        """The module that opens this file; only now is its SDK imported.

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
            raise UsageError(f"{self}: a bundle is not changed: change the model and make the bundle again")
        data = self.path.read_bytes()
        with refusing(self, f"it is no {self.format.suffix} file"):
            changed = self.format.write_notes(data, notes)
        self.path.write_bytes(changed)
        self.seal()


def hash_files(files: tuple[Path, ...]) -> str:
    """SHA-256 over several files one after the other, in hexadecimal."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(COPY_BYTES):
                digest.update(block)
    return digest.hexdigest()


def find_model_files(folder: Path) -> list[Path]:
    """The model files in a folder, by name; bundles are not among them."""
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes())


def _only_model(folder: Path) -> Path:
    models = find_model_files(folder)
    if len(models) == 1:
        return models[0]
    kinds = ", ".join(suffixes())
    hint = f"name one of {', '.join(model.name for model in models)}" if models else f"it holds no {kinds}"
    raise UnknownFormatError(f"{folder}: is a folder; {hint}")

"""The bundled models, by name: which are installed, and their files.

Each is a small package of its own with files and no code. A source checkout has them below `models/` and needs no
installation. Needs neither an SDK nor torch.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from runtimes.errors import MissingExtraError, MissingFileError, UsageError
from runtimes.formats import FORMATS

PACKAGES = {"people": "edge_mrcnn_people"}
"""Name of a model -> package with the files for a device."""
WEIGHTS = "_weights"
"""Suffix of the name of the package with its checkpoint, which only training needs."""
CHECKOUT = Path(__file__).parents[1] / "models"
"""Folder of the packages in a source checkout."""
CHECKPOINT = ".pt"
FASTEST_FIRST = ("tflite", "openvino", "onnx")
"""Formats in the order of their INT8 speed on x86; `edge-mrcnn tune` measures it on a given board."""
FASTEST_FIRST_ON_ARM = ("tflite", "onnx", "openvino")
"""OpenVINO runs INT8 layers in float on a Cortex-A72, see docs/guides/raspberry-pi.md."""


@dataclass(frozen=True)
class ShippedModel:
    """One bundled model in all installed formats."""

    name: str
    """Its name: "people"."""
    folder: Path
    """Folder of its files."""

    @property
    def files(self) -> dict[str, Path]:
        """Format -> INT8 file, fastest first."""
        found = {}
        for name in fastest_first():
            path = self.folder / f"{self.name}{FORMATS[name].suffix}"
            if path.is_file():
                found[name] = path
        return found

    @property
    def checkpoint(self) -> Path | None:
        """Checkpoint to start a training from; None if it is not installed."""
        file = f"{self.name}{CHECKPOINT}"
        for folder in (self.folder, *_places(self.name, f"{PACKAGES[self.name]}{WEIGHTS}")):
            if (folder / file).is_file():
                return folder / file
        return None

    @property
    def photographs(self) -> list[Path]:
        """Example images with its classes."""
        return sorted((self.folder / "photographs").glob("*.jpg"))

    def file_for(self, runtime: str) -> Path:
        """The file of a format.

        Raises:
            MissingFileError: If it is not installed.
        """
        found = self.files.get(runtime)
        if found is None:
            raise MissingFileError(f"{self.name}: not installed for {runtime}, only for {', '.join(self.files)}")
        return found

    def best_file(self) -> Path:
        """The file of the fastest installed runtime.

        Raises:
            MissingExtraError: If no runtime is installed.
        """
        for name, path in self.files.items():
            if is_installed(name):
                return path
        raise MissingExtraError(f"{self.name}: no runtime is installed: pip install 'edge-mrcnn[{FASTEST_FIRST[0]}]'")


def fastest_first() -> tuple[str, ...]:
    """The formats in the order of their speed on this processor."""
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    return FASTEST_FIRST_ON_ARM if is_arm else FASTEST_FIRST


def is_installed(runtime: str) -> bool:
    """Whether a package for a format is installed; it is not imported."""
    for package in FORMATS[runtime].packages:
        try:
            distribution(package)
        except PackageNotFoundError:
            continue
        return True
    return False


def list_shipped() -> list[ShippedModel]:
    """The models that are installed."""
    found = []
    for name in PACKAGES:
        folder = _folder_of(name)
        if folder is not None:
            found.append(ShippedModel(name, folder))
    return found


def default_model() -> ShippedModel:
    """The default model.

    Raises:
        UsageError: If none is installed.
    """
    shipped = list_shipped()
    if not shipped:
        raise UsageError("--model: expected a model file; to use the bundled model: pip install edge-mrcnn-people")
    return shipped[0]


def find_shipped(path: str | Path) -> ShippedModel | None:
    """The model of this name; None for any other path, or if a file or folder of this name exists here.

    Raises:
        MissingFileError: If its package is not installed.
    """
    path = Path(path)
    name = str(path)
    if name not in PACKAGES or path.exists():
        return None
    folder = _folder_of(name)
    if folder is None:
        raise MissingFileError(
            f"{name}: no such file, and the model of this name is not installed: pip install edge-mrcnn-{name}"
        )
    return ShippedModel(name, folder)


def model_file(path: str | Path) -> Path:
    """A path itself; for "people" the file of the fastest installed runtime, for "people.onnx" that file.

    Raises:
        MissingFileError, MissingExtraError: If a shipped model, or every runtime of it, is not installed.
    """
    shipped = find_shipped(path)
    return shipped.best_file() if shipped else _by_file_name(Path(path))


def checkpoint_file(path: str | Path) -> Path:
    """A path itself; for "people" or "people.pt" the checkpoint.

    Raises:
        MissingFileError: If it is not installed.
    """
    shipped = find_shipped(path)
    if shipped is None:
        return _by_file_name(Path(path))
    if shipped.checkpoint is None:
        raise MissingFileError(
            f"{path}: installed without its checkpoint: pip install edge-mrcnn-{shipped.name}-weights"
        )
    return shipped.checkpoint


def _by_file_name(path: Path) -> Path:
    """The file of a bundled model for a bare file name, else the path itself."""
    is_bare = path.name == str(path)
    if not is_bare or path.stem not in PACKAGES or path.exists():
        return path
    folder = _folder_of(path.stem)
    if folder is None:
        return path
    if path.suffix == CHECKPOINT:
        return ShippedModel(path.stem, folder).checkpoint or path
    return folder / path.name if (folder / path.name).is_file() else path


def _folder_of(name: str) -> Path | None:
    """The folder of an installed package, or else of a checkout; None if neither contains a model file."""
    for folder in _places(name, PACKAGES[name]):
        if ShippedModel(name, folder).files:
            return folder
    return None


def _places(name: str, package: str) -> list[Path]:
    """Possible folders of a model's package: the installed one, then that of a checkout."""
    spec = find_spec(package)
    installed = spec.submodule_search_locations if spec else None
    checkout = CHECKOUT / name
    return [*map(Path, installed or ()), checkout / package, checkout / "weights" / package]

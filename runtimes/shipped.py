"""The models that come with edge-mrcnn, by name: which are installed, and where their files are.

Each comes in a small package of its own that holds files and no code. A checkout of the sources has them below
`models/` and needs no installation. Nothing here needs an SDK or torch.
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
"""Name of a model -> the package that holds the files that a device runs."""
WEIGHTS = "_weights"
"""End of the name of the package with its checkpoint, which only a training needs."""
CHECKOUT = Path(__file__).parents[1] / "models"
"""Where a checkout of the sources has the packages."""
CHECKPOINT = ".pt"
FASTEST_FIRST = ("tflite", "openvino", "onnx")
"""Formats in the order of their speed in INT8 on x86; `edge-mrcnn tune` measures it on one board."""
FASTEST_FIRST_ON_ARM = ("tflite", "onnx", "openvino")
"""OpenVINO runs INT8 layers in float on a Cortex-A72, see docs/guides/raspberry-pi.md."""


@dataclass(frozen=True)
class ShippedModel:
    """One model in the forms in which it is installed."""

    name: str
    """What users call it: "people"."""
    folder: Path
    """Where its files are."""

    @property
    def files(self) -> dict[str, Path]:
        """Format -> INT8 file, the fastest first."""
        found = {}
        for name in fastest_first():
            path = self.folder / f"{self.name}{FORMATS[name].suffix}"
            if path.is_file():
                found[name] = path
        return found

    @property
    def checkpoint(self) -> Path | None:
        """What a training starts from; None where it was left out."""
        file = f"{self.name}{CHECKPOINT}"
        for folder in (self.folder, *_places(self.name, f"{PACKAGES[self.name]}{WEIGHTS}")):
            if (folder / file).is_file():
                return folder / file
        return None

    @property
    def photographs(self) -> list[Path]:
        """Pictures that show what it finds."""
        return sorted((self.folder / "photographs").glob("*.jpg"))

    def file_for(self, runtime: str) -> Path:
        """The file of a format.

        Raises:
            MissingFileError: If it was left out.
        """
        found = self.files.get(runtime)
        if found is None:
            raise MissingFileError(f"{self.name}: is not installed for {runtime}, only for {', '.join(self.files)}")
        return found

    def best_file(self) -> Path:
        """The file of the fastest runtime that is installed.

        Raises:
            MissingExtraError: If no runtime is.
        """
        for name, path in self.files.items():
            if is_installed(name):
                return path
        raise MissingExtraError(f"{self.name}: no runtime is installed: pip install 'edge-mrcnn[{FASTEST_FIRST[0]}]'")


def fastest_first() -> tuple[str, ...]:
    """The formats in the order of their speed on a processor like this one."""
    is_arm = platform.machine().lower() in ("aarch64", "arm64")
    return FASTEST_FIRST_ON_ARM if is_arm else FASTEST_FIRST


def is_installed(runtime: str) -> bool:
    """Whether a package is there that runs a format; it is not imported."""
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
    """The model to take where a user names none.

    Raises:
        UsageError: If none is installed.
    """
    shipped = list_shipped()
    if not shipped:
        raise UsageError(
            "--model: name a model file, or install the one that comes along: pip install edge-mrcnn-people"
        )
    return shipped[0]


def find_shipped(path: str | Path) -> ShippedModel | None:
    """The model of this name; None for any other path, and where a file or folder of this name lies here.

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
    """A path itself; of "people" the file of the fastest runtime here, of "people.onnx" that file.

    Raises:
        MissingFileError, MissingExtraError: If a shipped model, or every runtime of it, is not installed.
    """
    shipped = find_shipped(path)
    return shipped.best_file() if shipped else _by_file_name(Path(path))


def checkpoint_file(path: str | Path) -> Path:
    """A path itself; of "people" or "people.pt" the checkpoint.

    Raises:
        MissingFileError: If it is not installed.
    """
    shipped = find_shipped(path)
    if shipped is None:
        return _by_file_name(Path(path))
    if shipped.checkpoint is None:
        raise MissingFileError(
            f"{path}: is installed without its checkpoint: pip install edge-mrcnn-{shipped.name}-weights"
        )
    return shipped.checkpoint


def _by_file_name(path: Path) -> Path:
    """The file of a shipped model that a bare file name means, else the path itself."""
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
    """The folder of an installed package, else of a checkout; None where neither holds a model file."""
    for folder in _places(name, PACKAGES[name]):
        if ShippedModel(name, folder).files:
            return folder
    return None


def _places(name: str, package: str) -> list[Path]:
    """Folders where a package of a model may be: where it is installed, then in a checkout."""
    spec = find_spec(package)
    installed = spec.submodule_search_locations if spec else None
    checkout = CHECKOUT / name
    return [*map(Path, installed or ()), checkout / package, checkout / "weights" / package]

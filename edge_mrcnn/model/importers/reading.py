"""Reading of any checkpoint without running its code.

Torch's files are read with `weights_only`; each object that is not plain data becomes an `Unread` with only the name of
its class. Plain pickles, as in Detectron2's model zoo, may contain numpy arrays.
"""

from __future__ import annotations

import pickle
import zipfile
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import torch

from runtimes.errors import ModelFileError

HDF5 = b"\x89HDF"
"""Signature of Keras files up to version 2."""
LEGACY_TORCH = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
"""Signature of `torch.save` before 1.6: a pickled number."""

TEXTS = {
    b"version https:": "a pointer of Git LFS in place of the file; fetch it with git lfs pull",
    b"<!doctype": "a web page in place of the file; download it again",
    b"<html": "a web page in place of the file; download it again",
}
"""First bytes, in lower case, of what a failed download leaves -> description."""

NUMPY_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
"""Modules of numpy's pickle functions, by version."""
PICKLED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),  # bytes pickled by Python 3 for Python 2
    *((module, name) for module in NUMPY_MODULES for name in ("_reconstruct", "scalar", "_frombuffer")),
}
"""Allowed names in a plain pickle."""

PLAIN: list[Any] = [Namespace, OrderedDict]
"""Data classes that training scripts save with the weights."""


class Unread:
    """Stands in for an object whose class would have to be imported: has the name of the class, without the content."""

    path = ""
    """Module and name of the class."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Unread:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def read_record(path: Path) -> Any:
    """The content of a checkpoint file.

    Raises:
        ModelFileError: If it cannot be read, or not without running code.
    """
    with path.open("rb") as file:
        start = file.read(len(LEGACY_TORCH))
    if start.startswith(HDF5):
        raise ModelFileError(f"{path}: {_describe_keras(path)}")
    for signature, what in TEXTS.items():
        if start.lower().startswith(signature):
            raise ModelFileError(f"{path}: {what}")
    if zipfile.is_zipfile(path):
        _refuse_other_archives(path)
        return _read_torch(path)
    if start[:1] == b"\x80" and start != LEGACY_TORCH:
        return _read_pickle(path)
    return _read_torch(path)


def _read_torch(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([*PLAIN, *_stand_ins(path)]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise ModelFileError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error


def _stand_ins(path: Path) -> list[tuple[type[Unread], str]]:
    """An `Unread` for each class in a file that torch refuses, with the class's name."""
    if not zipfile.is_zipfile(path):
        return []
    named = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    known = {f"{plain.__module__}.{plain.__qualname__}" for plain in PLAIN}
    return [(type("Unread", (Unread,), {"path": name}), name) for name in named if name not in known]


def _read_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return ArrayUnpickler(file, encoding="latin1").load()
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from error
    except Exception as error:  # any exception that a damaged pickle can cause
        raise ModelFileError(f"{path}: not a readable checkpoint ({type(error).__name__})") from error


class ArrayUnpickler(pickle.Unpickler):
    """Reads plain values and numpy arrays; any other name in a pickle is refused before it is imported."""

    def __init__(self, file: BinaryIO, *, encoding: str = "ASCII") -> None:
        super().__init__(file, encoding=encoding)

    def find_class(self, module: str, name: str) -> Any:
        """The allowed names of `PICKLED`.

        Raises:
            ModelFileError: For all others.
        """
        if (module, name) not in PICKLED:
            raise ModelFileError(
                f"a pickle that would run {module}.{name}: expected only numpy arrays, as in Detectron2's model zoo; "
                "save its weights alone with torch.save(model.state_dict(), 'weights.pth')"
            )
        return super().find_class(module, name)


def _refuse_other_archives(path: Path) -> None:
    """Raise ModelFileError for zip files of other projects."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "model.weights.h5" in names:
        raise ModelFileError(f"{path}: a Keras model, whose layers have no counterpart here; {TRAIN}")
    if any(name.endswith("/constants.pkl") for name in names):
        raise ModelFileError(
            f"{path}: a TorchScript program, whose parts cannot be identified; "
            "save the weights of the original model: torch.save(model.state_dict(), 'weights.pth')"
        )
    if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        raise ModelFileError(f"{path}: expected a checkpoint, got a zip file that torch.save did not write")


TRAIN = "train a Mask R-CNN on the same data instead: edge-mrcnn train --data DIR"
"""Advice for a model of another kind."""


def _describe_keras(path: Path) -> str:
    """Matterport's Mask R-CNN has layer names in its file."""
    if b"mrcnn_mask" in path.read_bytes():
        return (
            "Matterport's Mask R-CNN for Keras, whose backbone and heads are built differently; "
            f"its weights cannot be used: {TRAIN}"
        )
    return f"a Keras model (HDF5), whose layers have no counterpart here; {TRAIN}"

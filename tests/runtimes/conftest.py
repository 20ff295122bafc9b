"""Copies of the toy models for tests that change them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.formats import files_of


@pytest.fixture
def copy_model(model_files: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """A function from a suffix to a copy of the toy model of that format, with all its files."""

    def copy(suffix: str) -> Path:
        for file in files_of(model_files[suffix]):
            shutil.copy(file, tmp_path)
        return tmp_path / model_files[suffix].name

    return copy

"""Where the file of an image record is, in spite of what tools do to its name.

Windows writes backslashes, web tools %20, macOS decomposed letters; letter case changes, and a folder is put in front
of the name or is missing. What is found must be the only file that fits: a picture of another split never does.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

MOST_FILES = 2_000_000
"""Files of a folder that are listed in search of others, at most."""

Parts = tuple[str, ...]


class FileFinder:
    """Finds the files of one split."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        """Prepare; nothing is listed as long as every file is where its name says.

        Args:
            folder: That names are relative to.
            root: Of the whole data set, where files with more than one part in their name may lie, too.
        """
        self._folder = folder
        self._root = root or folder

    def find(self, name: str) -> tuple[Path, bool]:
        """The path of a file, and whether its name had to be understood; what is not found keeps its name."""
        plain = self._folder / name
        if plain.is_file():
            return plain, False
        for spelling in dict.fromkeys((name, unquote(name))):
            found = self._search(name_parts(spelling))
            if found is not None:
                return found, True
        return plain, False

    def _search(self, parts: Parts) -> Path | None:
        if not parts:
            return None
        if self._root != self._folder and len(parts) > 1:
            found = _only_best(self._all_files[parts[-1]], parts, least=2)
            if found is not None:
                return self._root / found
        found = _only_best(self._own_files[parts[-1]], parts, least=1)
        return None if found is None else self._folder / found

    @cached_property
    def _own_files(self) -> dict[str, list[str]]:
        return list_files(self._folder)

    @cached_property
    def _all_files(self) -> dict[str, list[str]]:
        return list_files(self._root)


def name_parts(name: str) -> Parts:
    """Folders and file of a name, in one spelling: composed letters, lower case, no drive, no dots."""
    unified = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    return tuple(part for part in unified.split("/") if part not in ("", ".", "..") and not part.endswith(":"))


def list_files(folder: Path) -> dict[str, list[str]]:
    """Last part of a name, as in `name_parts`, to the relative paths of the files under a folder that have it."""
    files: dict[str, list[str]] = defaultdict(list)
    count = 0
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += len(names)
        if count > MOST_FILES:
            break
        for name in names:
            relative = os.path.relpath(os.path.join(where, name), folder)
            files[name_parts(name)[-1]].append(relative)
    return files


def _only_best(candidates: list[str], parts: Parts, least: int) -> str | None:
    """The one candidate that shares most parts at its end, `least` of them at least; None if there are two.

    One of both names must end there: a/1.jpg is not b/1.jpg.
    """
    ranked: dict[int, list[str]] = defaultdict(list)
    for candidate in candidates:
        own = name_parts(candidate)
        common = _common_end(own, parts)
        if common >= least and common in (len(own), len(parts)):
            ranked[common].append(candidate)
    best = ranked[max(ranked)] if ranked else []
    return best[0] if len(best) == 1 else None


def _common_end(one: Parts, other: Parts) -> int:
    count = 0
    for a, b in zip(reversed(one), reversed(other), strict=False):
        if a != b:
            break
        count += 1
    return count

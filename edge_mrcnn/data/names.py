"""Paths of image files in spite of changed names.

Windows writes backslashes, web tools %20, macOS decomposed letters; case changes, and a folder is added to the name or
missing. A match must be the only file that fits: an image of another split never matches.
"""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

MOST_FILES = 2_000_000
"""Maximum number of files of a folder that are listed in the search."""

Parts = tuple[str, ...]


class FileFinder:
    """Finds the files of one split."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        """Prepare the search; nothing is listed as long as every file has its annotated name.

        Args:
            folder: Folder that names are relative to.
            root: Root of the whole data set, for names with more than one part.
        """
        self._folder = folder
        self._root = root or folder

    def find(self, name: str) -> tuple[Path, bool]:
        """The path of a file, and whether its name differs from the annotation; a missing file keeps its name."""
        plain = self._folder / name
        if plain.is_file():
            return plain, False
        bare = name.partition("?")[0] if "://" in name else name
        for spelling in dict.fromkeys((bare, unquote(bare))):
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
    """Folders and file of a name in normal form: composed letters, lower case, no drive, no dots."""
    unified = unicodedata.normalize("NFC", name.replace("\\", "/")).casefold()
    return tuple(part for part in unified.split("/") if part not in ("", ".", "..") and not part.endswith(":"))


def list_files(folder: Path) -> dict[str, list[str]]:
    """Last part of a name, as in `name_parts` -> relative paths of the files under a folder with that last part."""
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
    """The only candidate that shares the most parts at its end, at least `least`; None if there are two.

    One of both names must be completely contained: a/1.jpg does not match b/1.jpg.
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

"""Where results go without harm to what is there: the rule of every verb that writes.

1. No output opens what an input is, by whatever name (`expect_apart`): that is wrong usage, found before anything is
   touched.
2. What exists is not overwritten unasked: a new file or folder gets the next free number, "out.mp4" becomes
   "out-2.mp4" (`free_path`, `claim_file`). Empty files and folders are free; a device or a pipe is written to as it is.
3. Nothing is made or emptied before there is something to write; whether it can be written is found out without
   touching it (`expect_writable`).
4. Two results never share a name (`separate`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path

from runtimes.errors import UnavailableError, UsageError, expect_text


def free_path(path: Path, *, overwrite: bool = False) -> Path:
    """The path itself where nothing is lost by writing there, else the first with a number that is free.

    Args:
        path: A file or a folder.
        overwrite: Whether the user asked to replace what is there.
    """
    if overwrite or is_free(path):
        return path
    # "." and ".." have no name to which a number could be added.
    named = path if path.name not in ("", "..") else path.resolve()
    return next(one for number in count(2) if is_free(one := named.with_stem(f"{named.stem}-{number}")))


def is_free(path: Path) -> bool:
    """Whether nothing is lost by writing there."""
    if path.is_dir():
        return not any(path.iterdir())
    return not path.exists() or not path.is_file() or path.stat().st_size == 0


def claim_file(path: Path, *, overwrite: bool = False) -> Path:
    """Make an empty file, and its folder, at the first free path, so that no other program takes the same one.

    Raises:
        UnavailableError: If it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            free = free_path(path, overwrite=overwrite)
            if free.exists():
                return free
            try:
                free.open("xb").close()
            except FileExistsError:  # by another program, just now
                continue
            return free
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error


def expect_writable(path: Path) -> None:
    """Raise UnavailableError unless a file or folder could be written, as far as can be known without doing it."""
    expect_text(str(path))
    try:
        place = path if path.exists() else next(parent for parent in path.absolute().parents if parent.exists())
        is_blocked = place != path and not place.is_dir()
        if not is_blocked and os.access(place, os.W_OK):
            return
        is_read_only = bool(os.statvfs(place).f_flag & os.ST_RDONLY) if hasattr(os, "statvfs") else False
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error
    if is_blocked:
        reason = f"{place} is no folder"
    else:
        reason = "its disk is mounted read-only" if is_read_only else "no permission"
    raise UnavailableError(f"{path}: cannot be written: {reason}")


def expect_apart(outputs: Iterable[tuple[str, Path]], inputs: Iterable[Path]) -> None:
    """Refuse outputs that are an input, or each other.

    Args:
        outputs: What the user calls each, such as "--save", and its file or folder, which may be absent.
        inputs: Files and folders that are read; absent ones count as themselves.

    Raises:
        UsageError: If an output is one of the inputs by any name (another spelling, a link), or another output.
    """
    taken = {identity: f"{path} is read" for path in inputs for identity in _identities(path)}
    for name, path in outputs:
        for identity in _identities(path):
            if identity in taken:
                raise UsageError(f"{name} {path}: {taken[identity]}, so it cannot be written; choose another name")
        taken |= {identity: f"it is {name} already" for identity in _identities(path)}


def _identities(path: Path) -> Iterable[object]:
    """What two names of one file have in common: its place, and device and number where it exists (hard links)."""
    yield path.resolve()
    try:
        found = path.stat()
    except OSError:
        return
    if path.is_file() or path.is_dir():
        yield found.st_dev, found.st_ino


def separate(names: Mapping[str, str]) -> dict[str, str]:
    """Give each key a name of its own: those that are equal get numbers, also where case makes no difference.

    Args:
        names: Key -> the name that it would like.
    """
    given: dict[str, str] = {}
    taken: set[str] = set()
    for key, wish in names.items():
        name = next(n for n in _numbered(wish) if n.casefold() not in taken)
        taken.add(name.casefold())
        given[key] = name
    return given


def _numbered(wish: str) -> Iterable[str]:
    yield wish
    for number in count(2):
        yield f"{wish}-{number}"

"""Output paths, and the rules of every command that writes.

1. No output is the same file as an input, by any name (`expect_apart`); this is wrong usage, detected before anything
is touched.

2. Existing files are not overwritten unless requested: a new file or folder gets the next free number, "out.mp4"
becomes "out-2.mp4" (`free_path`, `claim_file`). Empty files and folders may be used; devices and pipes are written to
directly.

3. Nothing is created or emptied before there is something to write; whether a path is writable is checked without
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
    """The path itself if writing there destroys nothing, else the first free path with a number.

    Args:
        path: A file or a folder.
        overwrite: Whether the user asked to replace an existing output.
    """
    if overwrite or is_free(path):
        return path
    # "." and ".." have no name to add a number to.
    named = path if path.name not in ("", "..") else path.resolve()
    return next(one for number in count(2) if is_free(one := named.with_stem(f"{named.stem}-{number}")))


def is_free(path: Path) -> bool:
    """Whether writing there destroys nothing."""
    if path.is_dir():
        return not any(path.iterdir())
    return not path.exists() or not path.is_file() or path.stat().st_size == 0


def claim_file(path: Path, *, overwrite: bool = False) -> Path:
    """Create an empty file, and its folder, at the first free path, so that no other program takes the same path.

    Raises:
        UnavailableError: If it cannot be created.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            free = free_path(path, overwrite=overwrite)
            if free.exists():
                return free
            try:
                free.open("xb").close()
            except FileExistsError:  # another program has just created it
                continue
            return free
    except OSError as error:
        raise UnavailableError(f"{path}: cannot be written: {error.strerror}") from error


def expect_writable(path: Path) -> None:
    """Raise UnavailableError unless a file or folder could be written, as far as this is known without writing."""
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
        reason = f"{place} is not a folder"
    else:
        reason = "its disk is mounted read-only" if is_read_only else "no permission"
    raise UnavailableError(f"{path}: cannot be written: {reason}")


def expect_apart(outputs: Iterable[tuple[str, Path]], inputs: Iterable[Path]) -> None:
    """Refuse outputs that are an input, or the same as another output.

    Args:
        outputs: Name of each output, such as "--save", and its file or folder, which may not exist.
        inputs: Files and folders that are read; they may not exist.

    Raises:
        UsageError: If an output is the same file as an input (also by another spelling or a link), or as another
            output.
    """
    taken = {identity: f"this is the input {path}" for path in inputs for identity in _identities(path)}
    for name, path in outputs:
        for identity in _identities(path):
            if identity in taken:
                raise UsageError(f"{name} {path}: {taken[identity]}; choose another name")
        taken |= {identity: f"this is also {name}" for identity in _identities(path)}


def _identities(path: Path) -> Iterable[object]:
    """The identity of a file: its resolved path, and device and inode number if it exists (hard links)."""
    yield path.resolve()
    try:
        found = path.stat()
    except OSError:
        return
    if path.is_file() or path.is_dir():
        yield found.st_dev, found.st_ino


def separate(names: Mapping[str, str]) -> dict[str, str]:
    """Give each key a unique name: equal names get numbers, also if only their case differs.

    Args:
        names: Key -> preferred name.
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

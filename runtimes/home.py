"""Folders of the current user, who may have no home: a container may run under any user id."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from runtimes.errors import UnavailableError


def user_folder(variable: str, below_home: str) -> Path:
    """A folder for files of one kind; it may not exist yet.

    Args:
        variable: Environment variable with its path, such as "XDG_CACHE_HOME".
        below_home: Default below the home folder, such as ".cache"; a user without a home gets a private temporary
            folder.

    Raises:
        UnavailableError: If that temporary folder belongs to another user.

    Source: XDG Base Directory Specification, 0.8.
    """
    if named := os.environ.get(variable):
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry in the user database
        home = _private_folder()
    return home / below_home


def _private_folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"edge-mrcnn-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Any user can create a folder of this name first, and put files into it that we would trust.
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise UnavailableError(f"{folder}: other users have access to this folder; set HOME to a folder of this user")
    return folder

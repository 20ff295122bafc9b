"""Live sources supported by each operating system."""

from __future__ import annotations

import sys

from runtimes.errors import UsageError


def expect_system(name: str, *, is_network: bool) -> None:
    """Refuse sources that this operating system does not support.

    A live source is read by a process that inherits descriptors, which Windows does not support; cameras are read
    through V4L2.

    Args:
        name: Name of the source in messages.
        is_network: Whether it is a network stream instead of a camera.

    Raises:
        UsageError: If it needs Linux.
    """
    if sys.platform.startswith("linux"):
        return
    if not is_network:
        others = "files" if sys.platform == "win32" else "files and network streams"
        raise UsageError(f"{name}: cameras need Linux (V4L2); on this system {others} can be read")
    if sys.platform == "win32":
        raise UsageError(f"{name}: network streams need Linux or macOS; on Windows, use files or WSL")

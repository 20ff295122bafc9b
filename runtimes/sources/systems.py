"""Which live sources an operating system can read."""

from __future__ import annotations

import sys

from runtimes.errors import UsageError


def expect_system(name: str, *, is_network: bool) -> None:
    """Refuse what cannot work on this operating system.

    A live source is read by a process that is handed descriptors, which Windows has not; cameras are read by V4L2.

    Args:
        name: What messages call the source.
        is_network: Whether it is a network stream and no camera.

    Raises:
        UsageError: If it needs Linux.
    """
    if sys.platform.startswith("linux"):
        return
    if not is_network:
        others = "files" if sys.platform == "win32" else "files and network streams"
        raise UsageError(f"{name}: cameras need Linux, whose V4L2 reads them; on this system {others} can be read")
    if sys.platform == "win32":
        raise UsageError(f"{name}: network streams need Linux or macOS; on Windows files can be read, or take WSL")

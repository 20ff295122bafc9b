"""Suppression of messages that libraries write from C++ directly to the process's stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Redirect file descriptor 2 to nowhere for a while. Python errors still reach the caller as exceptions."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def quiet_opencv() -> None:
    """Hide OpenCV's warnings about files and sources that cannot be opened: our own errors are clearer."""
    import cv2

    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # 4.x, 5.x
    set_level(2)  # errors only

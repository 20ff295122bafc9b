"""Output to stderr: log records from a chosen level on, and crashes, with all secrets removed."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from types import TracebackType

from runtimes.redaction import SecretFilter, redact

LEVELS = ("debug", "info", "warning", "error")
NOISY = ("torch.utils.cpp_extension", "torch.utils._pytree")
"""Loggers whose warnings concern CUDA and other packages, not the user's actions."""


def set_up_logs(level: str) -> None:
    """Log to stderr from this level on, and remove secrets from tracebacks."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    handler.addFilter(SecretFilter())
    logging.basicConfig(handlers=[handler])
    set_level(level)
    sys.excepthook = report_crash
    threading.excepthook = lambda crash: report_crash(
        crash.exc_type, crash.exc_value or crash.exc_type(), crash.exc_traceback
    )


def set_level(level: str) -> None:
    """Log from one of `LEVELS` on."""
    logging.getLogger().setLevel(level.upper())
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR if level in ("warning", "error") else logging.NOTSET)


def report_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback as Python does, without secrets."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))

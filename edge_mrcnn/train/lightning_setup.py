"""Settings of Lightning for this command line: fewer messages, no extra files, Ctrl-C as an exception."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.pytorch.loggers import TensorBoardLogger

from edge_mrcnn.config import TrainConfig
from runtimes.errors import UsageError

QUIET = (
    "lightning.pytorch",
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric",
    "lightning.fabric.utilities.distributed",
)
"""Loggers whose messages carry no news."""


class EventFiles(TensorBoardLogger):
    """Writes only TensorBoard's event files. The settings are in the checkpoint, so hparams.yaml would be empty."""

    def save(self) -> None:
        """Flush the events."""
        self.experiment.flush()


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Turn Lightning's exit on Ctrl-C and SIGTERM, after which it ignores further signals, into an exception.

    Raises:
        KeyboardInterrupt: In place of SystemExit.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


@contextmanager
def plain_memory_errors(config: TrainConfig, image_size_hw: tuple[int, int]) -> Iterator[None]:
    """Report too little memory as one line of advice.

    Raises:
        UsageError: In place of torch's error.
    """
    try:
        yield
    # The base class of torch.OutOfMemoryError; on a CPU, only the message says that memory is short.
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)):
            raise
        height, width = image_size_hw
        raise UsageError(
            f"out of memory with --batch {config.batch}, --rois {config.rois} and --imgsz {height}x{width}: lower them"
        ) from error


class quiet_lightning(warnings.catch_warnings):  # noqa: N801 (a context manager reads best in lower case)
    """Silence Lightning's hints about deliberate settings."""

    def __enter__(self) -> None:
        super().__enter__()
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")

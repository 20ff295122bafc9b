"""Lightning, taught the manners of this command line: few words, no stray files, Ctrl-C as an exception."""

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
"""Loggers that tell what is as it should be."""


class EventFiles(TensorBoardLogger):
    """TensorBoard's event files alone: the settings are in the checkpoint, not in an empty hparams.yaml."""

    def save(self) -> None:
        """Flush the events."""
        self.experiment.flush()


@contextmanager
def plain_interrupts() -> Iterator[None]:
    """Lightning answers Ctrl-C and SIGTERM by leaving the process and ignoring further signals; here they are errors.

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
    """A memory that is too small as one line with what to change.

    Raises:
        UsageError: In place of torch's error.
    """
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; on a CPU there is only the message
        if not (isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error)):
            raise
        height, width = image_size_hw
        raise UsageError(
            f"out of memory with --batch {config.batch}, --rois {config.rois} and --imgsz {height}x{width}: lower them"
        ) from error


class quiet_lightning(warnings.catch_warnings):  # noqa: N801 (a context manager reads best in lower case)
    """Silence Lightning's hints about things that are as they are on purpose."""

    def __enter__(self) -> None:
        super().__enter__()
        for name in QUIET:
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")

"""Lightning, taught the manners of this command line: few words, no stray files, Ctrl-C as an exception."""

from __future__ import annotations

import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.loggers import TensorBoardLogger


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


class quiet_lightning(warnings.catch_warnings):  # noqa: N801 (a context manager reads best in lower case)
    """Silence Lightning's hints about things that are as they are on purpose."""

    def __enter__(self) -> None:
        super().__enter__()
        for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")

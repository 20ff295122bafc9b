"""Entry point of the program: signals are handled before any import, which takes a second on a small board."""

from __future__ import annotations

import os
import signal
from typing import NoReturn


def main() -> None:
    """Run the command line."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A signal that the parent process ignores, as nohup does, stays ignored.
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end_at_once)
    from edge_mrcnn.cli import main as run_command

    run_command()


def end_at_once(number: int, frame: object) -> NoReturn:
    """Print one line and end: at this moment there is nothing to complete."""
    os.write(2, b"stopped\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()

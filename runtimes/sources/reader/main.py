"""Read the source of the plan until it fails, and report the error.

JSON lines go over a socket: the plan (never on the command line, where `ps` shows passwords), then requests in one
direction and reports in the other. For a requested frame, the model's small input image is written to memory that both
processes share, and the planes of the whole image if an output may use it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from . import camera, network
from .outlet import Outlet, Trouble

AFTER_CONNECTION = {"unreadable": "lost", "not-a-stream": "lost", "silent": "stalled"}
"""Error codes after the first frame."""

READERS: dict[str, Callable[[dict[str, Any], Outlet], None]] = {
    "network": network.read_network,
    "camera": camera.read_camera,
    "gstreamer": camera.read_gstreamer,
    "picamera": camera.read_picamera,
}


def main() -> None:
    """Execute the plan; the arguments are the descriptors of the socket and of the shared memory."""
    # signals reach the whole process group; the parent process ends this one
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(end, signal.SIG_IGN)
    number, *memory = map(int, sys.argv[1:])
    for descriptor in (number, *memory):  # child processes of a library must not keep them open
        os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=number)
    lines = channel.makefile("rb")
    plan = json.loads(lines.readline())
    sys.path[:] = plan["path"]
    outlet = Outlet(channel, memory, plan["input_hw"])
    threading.Thread(target=obey, args=(lines, outlet), daemon=True).start()
    trouble = read(plan, outlet)
    code = AFTER_CONNECTION.get(trouble.code, trouble.code) if outlet.is_connected else trouble.code
    outlet.tell(trouble=code, words=str(trouble))
    os._exit(0)


def read(plan: dict[str, Any], outlet: Outlet) -> Trouble:
    """Read until nothing comes any more, and report why."""
    try:
        READERS[plan["kind"]](plan, outlet)
    except Trouble as error:
        return error
    except Exception as error:  # any exception of a driver; its text may contain the address
        return Trouble("unreadable", f"cannot be read ({type(error).__name__})")
    return Trouble("lost", "the stream ended")


def obey(lines: Any, outlet: Outlet) -> None:
    """Hand out a frame per request; end with the parent process, even during a hang.

    A request is a delay in seconds, the number of a part of the memory, and 1 if the whole image is wanted, else 0.
    """
    try:
        for line in lines:
            delay, slot, is_whole = line.split()
            time.sleep(float(delay))
            outlet.ask(int(slot), is_whole == b"1")
    finally:
        os._exit(0)

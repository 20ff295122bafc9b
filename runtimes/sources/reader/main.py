"""Read the source of the plan until it fails; say why.

Over a socket go lines of JSON: the plan of what to open (never on the command line, where `ps` shows passwords), then
requests one way and reports the other way. Of frames that are asked for, the small picture that a model reads is put
into memory that both processes share, and the planes of the whole one where somebody may look at it.
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
"""What a trouble is once frames have come."""

READERS: dict[str, Callable[[dict[str, Any], Outlet], None]] = {
    "network": network.read_network,
    "camera": camera.read_camera,
    "gstreamer": camera.read_gstreamer,
    "picamera": camera.read_picamera,
}


def main() -> None:
    """Do what the plan says; the arguments are the descriptors of the socket and of the pieces of shared memory."""
    for end in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the whole group; our parent ends us
        signal.signal(end, signal.SIG_IGN)
    number, *memory = map(int, sys.argv[1:])
    for descriptor in (number, *memory):  # helpers that a library starts must not keep them open after us
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
    """Read until nothing comes any more, and say why."""
    try:
        READERS[plan["kind"]](plan, outlet)
    except Trouble as error:
        return error
    except Exception as error:  # whatever a driver raises; its text may hold the address
        return Trouble("unreadable", f"cannot be read ({type(error).__name__})")
    return Trouble("lost", "the stream ended")


def obey(lines: Any, outlet: Outlet) -> None:
    """Give a frame per request; end with the process that started us, even in a hang.

    A request is a delay in seconds, the number of a piece of memory, and 1 where the whole picture is wanted, else 0.
    """
    try:
        for line in lines:
            delay, slot, is_whole = line.split()
            time.sleep(float(delay))
            outlet.ask(int(slot), is_whole == b"1")
    finally:
        os._exit(0)

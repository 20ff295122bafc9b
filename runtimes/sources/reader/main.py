"""Read the source of the plan until it fails; say why.

Over a socket go lines of JSON: the plan of what to open (never on the command line, where `ps` shows passwords), then
requests one way and reports the other way. Only frames that are asked for are turned into RGB, in memory that both
processes share.
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
    """Do what the plan says; the arguments are the descriptors of the socket and of the shared memory."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they reach the whole group; our parent ends us
        signal.signal(number, signal.SIG_IGN)
    for descriptor in map(int, sys.argv[1:3]):  # helpers that a library starts must not keep them open after us
        os.set_inheritable(descriptor, False)
    channel = socket.socket(fileno=int(sys.argv[1]))
    lines = channel.makefile("rb")
    plan = json.loads(lines.readline())
    sys.path[:] = plan["path"]
    outlet = Outlet(channel, int(sys.argv[2]))
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
    """Give a frame per request, each a delay in seconds; end with the process that started us, even in a hang."""
    try:
        for line in lines:
            time.sleep(float(line))
            outlet.ask()
    finally:
        os._exit(0)

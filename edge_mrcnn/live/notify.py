"""Notifications to systemd: ready, alive, stopping.

One datagram each to the socket in NOTIFY_SOCKET (sd_notify(3)). "Alive" means that frames are processed, not that the
process exists, so a loop that hangs is restarted.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping


class Notifier:
    """Notifies a service manager; does nothing without one."""

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        # Half of the watchdog time, as sd_watchdog_enabled(3) recommends.
        self._interval_s = int(environment.get("WATCHDOG_USEC") or 0) / 2e6
        self._clock = clock
        self._is_ready = False
        self._patted_s = float("-inf")

    def alive(self, status: str = "") -> None:
        """A frame was processed, or all sources are paused or ended: "ready" at the first call, then "alive"."""
        if not self._address:
            return
        if not self._is_ready:
            self._is_ready = True
            self._send("READY=1", f"STATUS={status}")
        if self._interval_s and self._clock() - self._patted_s >= self._interval_s:
            self._patted_s = self._clock()
            self._send("WATCHDOG=1", f"STATUS={status}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A missing service manager is no reason to stop.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.settimeout(1.0)
            channel.sendto("\n".join(lines).encode(), address)

"""A process that reads a live source, seen from this side: ask for the newest frame, receive it, kill what hangs."""

from __future__ import annotations

import json
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.errors import SourceError
from runtimes.sources.base import Array

START_S = 20.0
"""How long the process may take until it begins to open the source: a busy Raspberry Pi imports slowly."""
PROGRAM = Path(__file__).with_name("reader_process.py")


@dataclass(frozen=True, eq=False)
class ConnectionReport:
    """What became of the frames of one connection so far: received = given + late + damaged + waiting."""

    received: int
    """Frames that were decoded or that the decoder called broken."""
    late: int
    """Frames that a newer one replaced before anybody asked."""
    damaged: int
    """Frames that the decoder called broken."""
    waiting: int
    """1 while a frame waits to be asked for, else 0."""
    arrived: float
    """When the newest good frame came, by `time.monotonic`; 0 before the first."""
    image: Array | None = None
    """(H, W, 3) uint8 RGB: the frame that was asked for."""
    index: int = 0
    """Number of that frame in this connection."""


class Connection:
    """One opening of a live source. Not for several threads at once, except `ask` and `kill`."""

    def __init__(self, name: str, plan: Mapping[str, Any], *, open_s: float, stall_s: float) -> None:
        """Start to open.

        Args:
            name: What messages call the source.
            plan: What the reading process is to do.
            open_s: Seconds from the first attempt to connect until the first frame must have come.
            stall_s: Seconds without a frame after which the source counts as stalled.
        """
        self._name = name
        self._open_s = open_s
        self._stall_s = stall_s
        self._deadline = time.monotonic() + START_S
        self._last = 0.0
        self._text = b""
        self._memory = make_memory()
        self._map: mmap.mmap | None = None
        self._channel, theirs = socket.socketpair()
        command = [sys.executable, str(PROGRAM), str(theirs.fileno()), str(self._memory)]
        nowhere = subprocess.DEVNULL  # FFmpeg writes addresses with their passwords to stderr
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=nowhere, stdout=nowhere, stderr=nowhere, pass_fds=(theirs.fileno(), self._memory)
                )
        except OSError as error:  # no memory or no process left: perhaps later
            self._channel.close()
            os.close(self._memory)
            raise SourceError(f"{name}: cannot start a process that reads it: {error.strerror}") from error
        self._channel.sendall(json.dumps({**plan, "path": sys.path}).encode() + b"\n")

    @property
    def pid(self) -> int:
        """Number of the reading process."""
        return self._process.pid

    def ask(self, delay_s: float = 0.0) -> None:
        """Request the newest frame of then that was not given yet, or else the next one.

        Args:
            delay_s: Seconds until it is wanted, so that it is fresh and yet ready.
        """
        with suppress(OSError):  # it has died: `receive` says so
            self._channel.sendall(b"%.4f\n" % delay_s)

    def receive(self, timeout_s: float) -> tuple[ConnectionReport | None, str]:
        """Wait for a report.

        Args:
            timeout_s: Longest wait in seconds.

        Returns:
            The report, or None if none came in time; and a warning of the reader, mostly "".

        Raises:
            SourceError: If the source cannot be opened, is lost or has stalled.
        """
        now = time.monotonic()
        if now >= self._deadline:
            raise self._late()
        line = self._read_line(min(timeout_s, self._deadline - now))
        if line is None:
            return None, ""
        fields = json.loads(line)
        report = self._parse(fields)
        if "is_ready" in fields:
            self._deadline = time.monotonic() + self._open_s
        if report.arrived:
            self._last = report.arrived
            self._deadline = report.arrived + self._stall_s
        if "trouble" in fields:
            raise SourceError(f"{self._name}: {fields['words']}", code=fields["trouble"])
        return report, fields.get("warning", "")

    def kill(self) -> None:
        """End the process at once; from any thread."""
        self._process.kill()

    def close(self) -> None:
        """End the process and free everything."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
        if self._map is not None:
            self._map.close()
        os.close(self._memory)

    def _read_line(self, timeout_s: float) -> bytes | None:
        while b"\n" not in self._text:
            self._channel.settimeout(max(timeout_s, 1e-3))
            try:
                data = self._channel.recv(65536)
            except TimeoutError:
                return None
            except OSError:
                data = b""
            if not data:
                raise SourceError(f"{self._name}: the process that reads it died", code="lost")
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line

    def _parse(self, fields: Mapping[str, Any]) -> ConnectionReport:
        report = ConnectionReport(**{key: fields[key] for key in ("received", "late", "damaged", "waiting", "arrived")})
        if "stride" not in fields:
            return report
        image = self._copy_image(fields["height"], fields["width"], fields["stride"])
        return replace(report, image=image, index=fields["index"])

    def _copy_image(self, height: int, width: int, stride: int) -> Array:
        """(H, W, 3) uint8 RGB out of the shared memory, whose rows are `stride` bytes apart."""
        size = height * stride
        if self._map is None or len(self._map) < size:
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._memory, size, prot=mmap.PROT_READ)
        rows = np.frombuffer(self._map, np.uint8, size).reshape(height, stride)[:, : 3 * width]
        return rows.copy().reshape(height, width, 3)

    def _late(self) -> SourceError:
        if self._last:
            return SourceError(f"{self._name}: no frame for {self._stall_s:g} s", code="stalled")
        return SourceError(f"{self._name}: no picture within {self._open_s:g} s, and no error either", code="silent")


def make_memory() -> int:
    """A descriptor of memory without a name, which vanishes with the last process that has it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("edge-mrcnn frame")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())

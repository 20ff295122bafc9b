"""The parent's side of a process that reads a live source: request the newest frame, receive it, kill the process if it
hangs."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runtimes.errors import SourceError
from runtimes.sources.base import Array
from runtimes.sources.pixels import MissingPixels, Pixels
from runtimes.sources.shared_memory import SharedMemory

LONGEST_S = 60.0
"""Maximum seconds of data without a frame: some cameras have key frames 30 s apart."""
FEW_FRAMES = 3
"""Number of frames after which the frame interval is known."""
PACES = 3.0
"""Number of frame intervals without a frame after which a stream has stalled, if that is longer than `stall_s`."""
START_S = 20.0
"""Maximum seconds until the process starts to open the source: imports are slow on a busy Raspberry Pi."""
PROGRAM = Path(__file__).with_name("reader_process.py")


@dataclass(frozen=True, eq=False)
class ConnectionReport:
    """Frame counts of one connection: received = given + late + damaged + waiting."""

    received: int
    """Frames that were decoded, or damaged according to the decoder."""
    late: int
    """Frames that a newer one replaced before a request."""
    damaged: int
    """Frames that are damaged according to the decoder."""
    waiting: int
    """1 while a frame waits for a request, else 0."""
    arrived: float
    """Time of the newest good frame, by `time.monotonic`; 0 before the first."""
    heard: float = 0.0
    """Time of the last data of the stream, a whole frame or not; 0 if unknown."""
    pixels: Pixels | None = None
    """The requested frame."""
    small: Array | None = None
    """(h, w, 3) uint8 RGB: the model's input, if its size is known."""
    index: int = 0
    """Number of that frame in this connection."""


class Connection:
    """One opening of a live source. Not thread-safe, except `ask` and `kill`."""

    def __init__(self, name: str, plan: Mapping[str, Any], *, open_s: float, stall_s: float) -> None:
        """Start to open the source.

        Args:
            name: Name of the source in messages.
            plan: Instructions for the reading process.
            open_s: Maximum seconds from the first connection attempt to the first frame if no data comes; `LONGEST_S`
                if data comes.
            stall_s: Seconds without a frame after which the source counts as stalled. A stream with a lower frame rate
                gets more time, see `PACES`.
        """
        self._name = name
        self._open_s = open_s
        self._stall_s = stall_s
        self._pace_s = self._told_s = 0.0
        self._is_late = False
        self._began = time.monotonic()
        self._deadline = self._began + START_S
        self._last: ConnectionReport | None = None
        self._text = b""
        self._memory = SharedMemory()
        self._asked = 0
        """The part of shared memory for the next frame."""
        self._channel, theirs = socket.socketpair()
        descriptors = theirs.fileno(), *self._memory.descriptors
        command = [sys.executable, str(PROGRAM), *map(str, descriptors)]
        nowhere = subprocess.DEVNULL  # FFmpeg writes addresses with their passwords to stderr
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command, stdin=nowhere, stdout=nowhere, stderr=nowhere, pass_fds=descriptors
                )
        except OSError as error:  # no memory or process available; may work later
            self._channel.close()
            self._memory.close()
            raise SourceError(f"{name}: cannot start a process to read it: {error.strerror}") from error
        self._channel.sendall(json.dumps({**plan, "path": sys.path}).encode() + b"\n")

    @property
    def pid(self) -> int:
        """Process id of the reading process."""
        return self._process.pid

    def ask(self, delay_s: float = 0.0, *, is_whole: bool = True) -> None:
        """Request the newest frame that was not given yet, or else the next one; once per frame.

        Args:
            delay_s: Seconds until it is needed, so that it is fresh and ready in time.
            is_whole: Whether any output may use its image, besides the model.
        """
        self._asked = self._memory.choose()
        with suppress(OSError):  # the process has died: `receive` reports it
            self._channel.sendall(b"%.4f %d %d\n" % (delay_s, self._asked, is_whole))

    def receive(self, timeout_s: float) -> tuple[ConnectionReport | None, str]:
        """Wait for a report.

        Args:
            timeout_s: Maximum seconds to wait.

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
            self._began = time.monotonic()
            self._deadline = self._began + self._open_s
        self._learn(report, fields.get("pace_s", 0.0))
        limit = self._limit(report)
        self._deadline = limit if report.arrived else max(self._deadline, limit)
        if "trouble" in fields:
            raise SourceError(f"{self._name}: {fields['words']}", code=fields["trouble"])
        return report, fields.get("warning", "")

    def _learn(self, report: ConnectionReport, told_s: float) -> None:
        """Update the frame interval: as the reader reports it, or the longest recent one."""
        before, self._last = self._last, report
        self._told_s = max(self._told_s, told_s)
        if before is None or not before.arrived or report.received == before.received:
            return
        interval_s = (report.arrived - before.arrived) / (report.received - before.received)
        self._pace_s = max(interval_s, 0.8 * self._pace_s)

    @property
    def patience_s(self) -> float:
        """Seconds without a frame after which the source counts as stalled."""
        return min(LONGEST_S, max(self._stall_s, PACES * self._pace_s, PACES * self._told_s))

    @property
    def has_given_up_early(self) -> bool:
        """Whether it stalled before its frame interval was known."""
        return self._is_late and self._last is not None and 0 < self._last.received <= FEW_FRAMES

    def _limit(self, report: ConnectionReport) -> float:
        """Time at which the source counts as silent or stalled unless data comes."""
        if report.arrived:
            return min(max(report.arrived, report.heard) + self.patience_s, report.arrived + LONGEST_S)
        most = self._began + max(LONGEST_S, self._open_s)
        return min(report.heard + self._open_s, most) if report.heard else 0.0

    def kill(self) -> None:
        """Kill the process; callable from any thread."""
        self._process.kill()

    def close(self) -> None:
        """Kill the process and free all resources."""
        self._process.kill()
        self._process.wait()
        self._channel.close()
        self._memory.close()

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
                raise SourceError(f"{self._name}: the reading process ended unexpectedly", code="lost")
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line

    def _parse(self, fields: Mapping[str, Any]) -> ConnectionReport:
        report = ConnectionReport(
            **{key: fields[key] for key in ("received", "late", "damaged", "waiting", "arrived", "heard")}
        )
        if "index" not in fields:
            return report
        small, whole = fields["small"], fields["whole"]
        height, width = fields["size_hw"]
        return replace(
            report,
            index=fields["index"],
            small=self._memory.read_small(self._asked, small) if small else None,
            pixels=self._memory.take_whole(self._asked, whole) if whole else MissingPixels((height, width)),
        )

    def _late(self) -> SourceError:
        self._is_late = True
        last = self._last
        if last is not None and last.arrived:
            silence_s = time.monotonic() - last.arrived
            return SourceError(f"{self._name}: no frame for {silence_s:.1f} s", code="stalled")
        waited_s = time.monotonic() - self._began
        if last is not None and last.heard:
            words = f"data, but no frame within {waited_s:.0f} s; if its key frames are far apart, use #open=120"
        else:
            words = f"no frame and no error within {waited_s:.0f} s"
        return SourceError(f"{self._name}: {words}", code="silent")

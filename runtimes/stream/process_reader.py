"""Reader of the newest frame of a camera or network stream, which another process decodes."""

from __future__ import annotations

import logging
import threading
import time

from runtimes.sources import Frame, LiveSource
from runtimes.sources.connection import Connection, ConnectionReport
from runtimes.stream.readers import Reader

TICK_S = 0.1
"""Seconds between checks of the stop flag during a wait: `stop` may be called where no lock can be acquired."""
_NOTHING = ConnectionReport(received=0, late=0, damaged=0, waiting=0, arrived=0.0)

logger = logging.getLogger(__name__)


class ProcessReader(Reader):
    """Requests a frame from the reading process when the model is free, and updates its frame counts meanwhile."""

    source: LiveSource

    def __init__(self, name: str, source: LiveSource, changed: threading.Condition, *, is_patient: bool) -> None:
        super().__init__(name, source, changed, is_patient=is_patient)
        self._connection: Connection | None = None
        self._last = _NOTHING
        self._slot: Frame | None = None
        self._is_asked = False
        self._due = 0.0
        """Time when the next frame may be taken, by `time.monotonic`."""
        self._is_resting = False
        """Whether the requested frame comes later than the model could take it."""

    @property
    def _patience_s(self) -> float:
        return self._connection.patience_s if self._connection else self.source.stall_s

    def prepare(self, delay_s: float = 0.0) -> None:
        if self._connection is not None and self._slot is None and not self._is_asked and not self.is_paused:
            self._is_asked = True
            rest_s = self._due - time.monotonic()
            self._is_resting = rest_s > delay_s
            delay_s = max(delay_s, rest_s)
            self._connection.ask(delay_s, is_whole=self.wants_picture())

    def pause(self, is_paused: bool) -> None:
        if is_paused:
            self._empty_slot("paused")
        super().pause(is_paused)

    def take(self) -> Frame:
        frame, self._slot = self._slot, None
        assert frame is not None
        if self.source.infer_fps:
            interval_s = 1 / self.source.infer_fps
            self._due = max(self._due, time.monotonic() - interval_s) + interval_s
        return frame

    @property
    def has_frame(self) -> bool:
        return self._slot is not None

    def _waiting(self) -> int:
        return int(self._slot is not None) + self._last.waiting

    def _discard(self, cause: str) -> None:
        self._empty_slot(cause)
        self.ledger.drop(cause, self._last.waiting)
        self._last = _NOTHING

    def _empty_slot(self, cause: str) -> None:
        self.ledger.drop(cause, int(self._slot is not None))
        self._slot = None

    def _read_once(self) -> None:
        connection = self.source.connect()
        try:
            with self._changed:
                self._connection, self._is_asked = connection, False
                self.prepare()
            while not self._is_stopping:
                report, warning = connection.receive(TICK_S)
                if warning:
                    logger.warning("%s: %s", self.name, warning)
                if report is not None:
                    with self._changed:
                        self._enter(report)
        finally:
            with self._changed:
                self._connection = None
                self.ledger.drop("end", self._last.waiting)
                self._last = _NOTHING
            connection.close()

    def _enter(self, report: ConnectionReport) -> None:
        """Update the frame counts from the reading process, and keep the frame if one came."""
        last, self._last = self._last, report
        if report.received > last.received:
            self._receive(report.received - last.received, report)
        cause = "paused" if self.is_paused else "limited" if self._is_resting else "late"
        self.ledger.drop(cause, report.late - last.late)
        self.ledger.drop("damaged", report.damaged - last.damaged)
        if report.pixels is not None:
            self._is_asked = self._is_resting = False
            self._keep(report)
        self._changed.notify_all()

    def _receive(self, count: int, report: ConnectionReport) -> None:
        self.ledger.received += count
        if report.arrived > (self.ledger.last_frame or 0.0):
            self._connect()
            self.ledger.last_frame = report.arrived
        self.ledger.arrivals.add(self.ledger.received, time.monotonic())

    def _keep(self, report: ConnectionReport) -> None:
        assert report.pixels is not None
        self.ledger.size_hw = report.pixels.size_hw
        if self.is_paused:
            self.ledger.drop("paused")
            return
        index = self.ledger.received - self._last.received + report.index
        frame = Frame(report.pixels, index, report.arrived - self._start, self.source.name, small=report.small)
        self._slot = self._label(frame, index, report.arrived)
        self._changed.notify_all()

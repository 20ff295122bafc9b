"""How much slower than idle this machine is at the moment, so that limits in seconds hold on a busy one, too.

It is measured on work of our own, not on the code under test: what that loses is not forgiven.
"""

from __future__ import annotations

import time

ROUNDS = 60
PAUSE_S = 0.005
WORK = 60_000
MOST = 3.0
"""Limits never grow by more than this factor, so that each can be missed."""


class Pace:
    """The factor by which the machine is slower; the largest of a test."""

    fastest_s = float("inf")
    """A round on the idle machine: the fastest that was ever seen."""

    def __init__(self) -> None:
        self.factor = 1.0
        self.look()

    def look(self) -> None:
        """Measure for half a second; the result is a pace that nine of ten rounds reach."""
        rounds = []
        for _ in range(ROUNDS):
            start = time.monotonic()
            time.sleep(PAUSE_S)
            sum(range(WORK))
            rounds.append(time.monotonic() - start)
        Pace.fastest_s = min(Pace.fastest_s, *rounds)
        slow_s = sorted(rounds)[int(0.9 * ROUNDS)]
        self.factor = min(MOST, max(self.factor, slow_s / Pace.fastest_s))

    def allow(self, limit: float) -> float:
        """A limit for the idle machine, scaled to this one's present speed."""
        self.look()
        return limit * self.factor

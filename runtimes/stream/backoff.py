"""Pauses before reconnecting to a lost source."""

from __future__ import annotations

import random

SHORTEST_S, LONGEST_S = 0.25, 30.0
OUTAGE_SHARE = 0.1
"""The pause as a share of the outage so far, so that it grows with it and the reconnection is never much delayed."""
UNAUTHORISED_S = 30.0
"""Minimum pause after a wrong password: cameras lock accounts after a few attempts."""
JITTER = 0.2
"""Maximum random extra of a pause, as a share, so that many cameras behind one switch are not reconnected at once."""


def pause_before_retry(outage_s: float, code: str, *, chance: random.Random) -> float:
    """Seconds to wait.

    Args:
        outage_s: Seconds since the source last worked.
        code: `SourceError.code` of the last attempt.
        chance: Source of the jitter.
    """
    pause = min(LONGEST_S, max(SHORTEST_S, OUTAGE_SHARE * outage_s))
    if code == "unauthorised":
        pause = max(pause, UNAUTHORISED_S)
    return pause * (1 + JITTER * chance.random())

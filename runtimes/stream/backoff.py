"""How long to wait before a lost source is opened again."""

from __future__ import annotations

import random

SHORTEST_S, LONGEST_S = 0.25, 30.0
OUTAGE_SHARE = 0.1
"""The pause is this share of the outage so far, so that it grows with it and the way back never takes much longer."""
UNAUTHORISED_S = 30.0
"""Cameras lock accounts after a few wrong passwords."""
JITTER = 0.2
"""Pauses are up to this share longer, by chance, so that many cameras behind one switch are not opened at once."""


def pause_before_retry(outage_s: float, code: str, *, chance: random.Random) -> float:
    """Seconds to wait.

    Args:
        outage_s: Seconds since the source was last well.
        code: `SourceError.code` of the last attempt.
        chance: Gives the jitter.
    """
    pause = min(LONGEST_S, max(SHORTEST_S, OUTAGE_SHARE * outage_s))
    if code == "unauthorised":
        pause = max(pause, UNAUTHORISED_S)
    return pause * (1 + JITTER * chance.random())

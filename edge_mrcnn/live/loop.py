"""The camera loop: each result of a stream goes to everything around it, and then to whoever iterates."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice

from edge_mrcnn.live.session import Session
from runtimes import Detections
from runtimes.sources import Frame

Results = Generator[tuple[Frame, Detections], None, None]


def run_loop(results: Results, session: Session, *, limit: int | None = None) -> Results:
    """Take results until the sources end, the limit is reached, or an output's user wants no more.

    Args:
        results: What a `Stream` gives; it is closed at the end.
        session: What surrounds the loop.
        limit: Frames at most.

    Yields:
        Each frame as it may leave the loop, and its objects that count.
    """
    with closing(results):
        for frame, found in islice(results, limit):
            yield session.put(frame, found)
            if session.is_finished:
                return

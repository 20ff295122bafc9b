"""The camera loop: each result of a stream goes to the session's outputs, and then to the caller."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice

from edge_mrcnn.live.session import Session
from runtimes import Detections
from runtimes.sources import Frame

Results = Generator[tuple[Frame, Detections], None, None]


def run_loop(results: Results, session: Session, *, limit: int | None = None) -> Results:
    """Process results until the sources end, the limit is reached, or the user of an output stops the loop.

    Args:
        results: Results of a `Stream`, which is closed at the end.
        session: Outputs and state around the loop.
        limit: Maximum number of frames.

    Yields:
        Each frame as it may leave the loop, and its detections that count.
    """
    with closing(results):
        for frame, found in islice(results, limit):
            yield session.put(frame, found)
            if session.is_finished:
                return

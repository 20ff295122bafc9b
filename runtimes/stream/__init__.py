"""The camera loop: infer the newest frame of a live source, and every frame of a file.

Late frames are dropped, not queued: with a queue, the delay would grow endlessly when the model is slower than the
camera. A lost live source is reconnected with growing pauses. Every frame is counted.
"""

from runtimes.stream.loop import Stream
from runtimes.stream.status import CAUSES, STATES, Counts, SourceStatus

__all__ = ["CAUSES", "STATES", "Counts", "SourceStatus", "Stream"]

"""The camera loop: infer the newest frame of a live source, every frame of a file.

Late frames are dropped, not queued: a queue makes the delay grow without end when the model is slower than the camera.
A lost live source is opened again, on a fresh handle, with growing pauses; every frame is accounted for.
"""

from runtimes.stream.loop import Stream
from runtimes.stream.status import CAUSES, STATES, Counts, SourceStatus

__all__ = ["CAUSES", "STATES", "Counts", "SourceStatus", "Stream"]

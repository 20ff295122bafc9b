"""The camera loop in one line: `for frame, detections in edge_mrcnn.stream("model.tflite", source=0): ...`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import runtimes
from runtimes import Detections, Runtime
from runtimes.sources import Frame, Source, open_sources
from runtimes.stream import Stream


class ModelStream(Stream):
    """A stream that opens its model and sources, keeps what scores enough, and closes the model at the end."""

    def __init__(self, runtime: Runtime, sources: dict[str, Source], *, conf: float, is_patient: bool) -> None:
        super().__init__(runtime, sources, is_patient=is_patient)
        self.conf = conf
        """Lowest score that counts, in [0, 1]; may be changed at any time."""

    def __iter__(self) -> Generator[tuple[Frame, Detections], None, None]:
        with self._runtimes[0]:
            for frame, found in super().__iter__():
                yield frame, found[found.scores >= self.conf]


def stream(
    model: str | Path | Runtime,
    source: str | int | Path | Sequence[str | int | Path] = 0,
    *,
    conf: float = 0.5,
    wait: bool = False,
    **options: Any,
) -> ModelStream:
    """Detections of one or several sources as they come: the newest frame of a camera, every frame of a file.

    Args:
        model: A .onnx, .xml or .tflite, or an opened runtime; it is closed at the end.
        source: As `--source` of the command line, or several.
        conf: Lowest score that counts, in [0, 1].
        wait: Whether a source that is not there yet is tried again for ever.
        **options: What `runtimes.load` takes, such as `threads`.

    Returns:
        Iterate it once for (`Frame`, `Detections`); it also has `status`, `counts`, `pause` and `stop`.

    Raises:
        EdgeError: If the model or a source cannot be opened.
    """
    several = [source] if isinstance(source, (str, int, Path)) else source
    sources = open_sources([str(one) for one in several])
    runtime = model if isinstance(model, Runtime) else runtimes.load(model, **options)
    return ModelStream(runtime, sources, conf=conf, is_patient=wait)

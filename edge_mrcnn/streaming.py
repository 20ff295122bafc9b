"""The camera loop in one line: `for frame, detections in edge_mrcnn.stream("model.tflite", source=0): ...`."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import runtimes
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.loop import run_loop
from edge_mrcnn.live.session import Session
from edge_mrcnn.live.settings import LiveSettings, field_names, make_settings
from runtimes import Detections, Runtime
from runtimes.sources import Frame, Source, open_sources
from runtimes.sources.stride import stride_sources
from runtimes.stream import Stream
from runtimes.tiling import tile_model


class ModelStream(Stream):
    """A stream that opens its model, sources and outputs, filters by score, and closes all at the end."""

    def __init__(
        self, runtime: Runtime, sources: dict[str, Source], settings: LiveSettings, *, is_patient: bool
    ) -> None:
        super().__init__(runtime, sources, is_patient=is_patient, spares_still=settings.spares_still)
        self._model = runtime
        self._is_patient = is_patient
        self._settings = settings
        self._controls = Controls(settings.conf, self.pause)

    @property
    def conf(self) -> float:
        """Score threshold, in [0, 1]; may be changed at any time."""
        return self._controls.conf

    @conf.setter
    def conf(self, value: float) -> None:
        self._controls.conf = value

    def __iter__(self) -> Generator[tuple[Frame, Detections], None, None]:
        card = self._model.card
        with self._model:
            session = Session(self._settings, card, self, controls=self._controls, is_patient=self._is_patient)
            with session:
                yield from run_loop(super().__iter__(), session)


def stream(
    model: str | Path | Runtime,
    source: str | int | Path | Sequence[str | int | Path] = 0,
    *,
    conf: float = 0.5,
    tile: int | None = None,
    overlap: float = 0.2,
    vid_stride: int = 1,
    wait: bool = False,
    **options: Any,
) -> ModelStream:
    """Detections of one or several sources as they come: the newest frame of a camera, every frame of a file.

    The loop is that of `edge-mrcnn run`, with its outputs:

        for frame, detections in edge_mrcnn.stream("model.tflite", 0, save="out.mp4", web=":8080", is_tracked=True):
            ...

    Args:
        model: A .onnx, .xml or .tflite, or an opened runtime; it is closed at the end.
        source: As `--source` of the command line, or several.
        conf: Score threshold, in [0, 1].
        tile: Side of the tiles that large images are also divided into, in pixels; None for no tiles.
        overlap: Minimum overlap of neighbouring tiles, as a share of their side, in [0, 0.9].
        vid_stride: Use only every Nth frame of video files.
        wait: Whether to reconnect for ever if a source is missing at start.
        **options: Options of `run` for tracking, counting and outputs, by the names of the settings' fields, such as
            `save`, `json`, `web`, `lines` or `is_tracked`; and options of `runtimes.load`, such as `threads`.

    Returns:
        An iterable of (`Frame`, `Detections`), to be used once; it also has `status`, `counts`, `pause` and `stop`.

    Raises:
        EdgeError: If the model or a source cannot be opened, or an option is not valid.
    """
    several = [source] if isinstance(source, (str, int, Path)) else source
    sources = stride_sources(open_sources([str(one) for one in several]), vid_stride)
    around = {name: options.pop(name) for name in field_names() & set(options)}
    settings = make_settings(conf=conf, **around)
    runtime = model if isinstance(model, Runtime) else runtimes.load(model, **options)
    runtime = tile_model(runtime, tile, overlap)
    return ModelStream(runtime, sources, settings, is_patient=wait)

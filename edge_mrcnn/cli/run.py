"""`edge-mrcnn run`: the camera loop, with pictures, records and figures."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import click
import cv2
import numpy as np

import runtimes
from runtimes import Detections, ModelCard, UsageError
from runtimes.draw import draw_detections, draw_panel
from runtimes.sinks import open_sink
from runtimes.sources import Frame, Source, open_source
from runtimes.stream import Stream

PROGRESS_S = 0.5
"""Seconds between two updates of the progress line."""


class Meter:
    """Times of each stage and the pace of the whole."""

    def __init__(self) -> None:
        self.frames = 0
        self._start = time.perf_counter()
        self._stages: dict[str, list[float]] = defaultdict(list)

    def add(self, speed_ms: dict[str, float]) -> None:
        """Note the stages of one frame, in milliseconds."""
        for stage, value in speed_ms.items():
            self._stages[stage].append(value)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    @property
    def fps(self) -> float:
        """Frames per second from end to end."""
        return self.frames / max(self.elapsed_s, 1e-9)

    def table(self) -> Iterator[str]:
        """Median and 90th percentile of each stage, as lines of text."""
        yield f"{'stage':<12}{'p50 ms':>9}{'p90 ms':>9}"
        for stage, values in self._stages.items():
            p50, p90 = np.percentile(values, [50, 90])
            yield f"{stage:<12}{p50:>9.1f}{p90:>9.1f}"


class Output:
    """Everything that is done with a frame once its objects are known."""

    def __init__(self, card: ModelCard, sink: Any, records: TextIO | None, *, show: bool) -> None:
        self._card = card
        self._sink = sink
        self._records = records
        self._show = show
        self.is_closed = False
        """Whether the user closed the window."""

    def put(self, frame: Frame, found: Detections, fps: float) -> dict[str, float]:
        """Record, draw, keep and show a frame.

        Returns:
            Milliseconds of the stages that ran.
        """
        if self._records:
            self._records.write(json.dumps(to_record(frame, found)) + "\n")
        if not (self._sink or self._show):
            return {}
        start = time.perf_counter()
        image = draw_detections(frame.image, found)
        draw_panel(image, [f"{fps:.0f} FPS   {found.speed['inference']:.1f} ms", describe(self._card)])
        drawn = time.perf_counter()
        if self._sink:
            self._sink.write(image, frame)
        if self._show:
            self.is_closed = show_image(image)
        return {"draw": 1e3 * (drawn - start), "output": 1e3 * (time.perf_counter() - drawn)}


@click.command()
@click.option("--model", required=True, help="A .onnx, .xml or .tflite that `export` or `quantize` wrote.")
@click.option("--source", required=True, help="Camera (0, /dev/video0), URL, video, image, folder or glob.")
@click.option("--save", type=click.Path(), help="Keep the drawn pictures: a video file, or a folder for images.")
@click.option("--show", is_flag=True, help="Show them in a window; q ends.")
@click.option("--conf", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Lowest score that counts.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice].")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write detections, one JSON line a frame.")
def command(
    model: str, source: str, save: str | None, show: bool, conf: float, max_frames: int | None,
    threads: int | None, json_path: Path | None,
) -> None:  # fmt: skip
    """Run a model live on a camera, stream or video. Ctrl-C ends it and finishes the files."""
    frames = open_source(source)
    quieten_opencv()
    if threads:
        cv2.setNumThreads(threads)
    with catch_interrupts() as interrupts, ExitStack() as stack:
        runtime = stack.enter_context(runtimes.load(model, threads=threads))
        sink = stack.enter_context(open_sink(save, frames)) if save else None
        records = stack.enter_context(open_records(json_path)) if json_path else None
        output = Output(runtime.card, sink, records, show=show)
        click.echo(f"{describe(runtime.card)} on {frames.name}", err=True)
        meter, stream = Meter(), Stream(runtime, frames)
        try:
            run_loop(stream, output, meter, interrupts, conf=conf, limit=max_frames, total=frames.frame_count)
        except KeyboardInterrupt:
            click.echo("\nstopped", err=True)
    summarize(meter, stream, frames)
    for path in (save, json_path):
        if path:
            click.echo(f"wrote {path}")
    click.echo(f"next: edge-mrcnn report --help, or edge-mrcnn predict --model {model} --source FOLDER -o DIR")


def run_loop(
    stream: Stream, output: Output, meter: Meter, interrupts: Interrupts, *, conf: float, limit: int | None, total: int
) -> None:
    """Take frames until the source ends, the limit is reached or the window is closed."""
    shown = 0.0
    with closing(iter(stream)) as results:
        for frame, found in islice(results, limit):
            found = found[found.scores >= conf]
            meter.frames += 1
            with interrupts.held():
                meter.add(found.speed | output.put(frame, found, meter.fps))
            if sys.stderr.isatty() and meter.elapsed_s - shown > PROGRESS_S:
                shown = meter.elapsed_s
                click.echo(f"\r{progress(meter, stream, total, len(found))}", nl=False, err=True)
            if output.is_closed:
                return


def progress(meter: Meter, stream: Stream, total: int, objects: int) -> str:
    """One line about the present."""
    of_total = f" of {total}" if total else ""
    return (
        f"frame {meter.frames}{of_total}   {meter.fps:.1f} FPS   {objects} objects   {stream.counts.dropped} dropped  "
    )


def summarize(meter: Meter, stream: Stream, source: Source) -> None:
    """Print what was done and how fast."""
    counts = stream.counts
    dropped = f", {counts.dropped} of {counts.received} dropped" if source.is_live else ""
    lost = f", {counts.reconnects} reconnections" if counts.reconnects else ""
    click.echo(f"{meter.frames} frames in {meter.elapsed_s:.1f} s: {meter.fps:.1f} FPS end to end{dropped}{lost}")
    if meter.frames:
        click.echo("\n".join(meter.table()))


def describe(card: ModelCard) -> str:
    """The model in a few words."""
    height, width = card.input_size_hw
    return f"{card.name} {card.precision} {width}x{height} {card.target}"


def to_record(frame: Frame, found: Detections) -> dict[str, Any]:
    """One frame as JSON: where it is from, times, detections as COCO results."""
    return {
        "frame": frame.index,
        "time_s": round(frame.time_s, 4),
        "name": frame.name,
        "image_size_hw": found.image_size_hw,
        "speed_ms": {stage: round(value, 3) for stage, value in found.speed_ms.items()},
        "detections": found.to_coco(frame.index),
    }


def show_image(image: np.ndarray) -> bool:
    """Show an RGB image in a window; true when the user pressed q or Escape."""
    try:
        cv2.imshow("edge-mrcnn", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) & 0xFF in (ord("q"), 27)
    except cv2.error as error:
        raise UsageError(
            "--show needs an OpenCV with windows and a display: pip uninstall opencv-python-headless && "
            "pip install opencv-python; or keep a video with --save"
        ) from error


def quieten_opencv() -> None:
    """Hide OpenCV's warnings about sources that do not open: our own errors say it better."""
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # 4.x, 5.x
    set_level(2)  # errors only


def open_records(path: Path) -> TextIO:
    """Open a file for lines of JSON; its folder is made.

    Raises:
        UsageError: If it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path}: cannot be written: {error.strerror}") from error


class Interrupts:
    """Lets SIGINT and SIGTERM end the loop, but never in the middle of writing a frame: a cut write spoils the file."""

    def __init__(self) -> None:
        self._is_held = False
        self._is_pending = False

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        if not self._is_held:
            raise KeyboardInterrupt
        self._is_pending = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep a signal that comes meanwhile until the end of the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
        if self._is_pending:
            raise KeyboardInterrupt


@contextmanager
def catch_interrupts() -> Iterator[Interrupts]:
    """Handle SIGTERM as Ctrl-C, so that a service manager leaves finished files behind."""
    interrupts = Interrupts()
    previous = {number: signal.signal(number, interrupts) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupts
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

"""`edge-mrcnn run`: the camera loop, with pictures, records and figures."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import NamedTuple, NoReturn

import click
import cv2
import numpy as np

import runtimes
from edge_mrcnn.live.credentials import Url
from edge_mrcnn.live.options import live_options
from edge_mrcnn.live.outputs import summarize_places
from edge_mrcnn.live.session import LiveSettings, Session
from edge_mrcnn.tune.choice import resolve_model
from runtimes import Detections, ModelCard, UsageError
from runtimes.draw import draw_detections, draw_panel
from runtimes.formats import FORMATS
from runtimes.sinks import Background, Reserve, Sink, Split, find_segments, name_for, open_sinks
from runtimes.sources import Frame, ImageSource, Source, open_sources
from runtimes.stream import SourceStatus, Stream

PROGRESS_S = 0.5
"""Seconds between two updates of the progress line."""
FINISH_S = 1.0
"""How long the pictures that wait may take after a signal."""


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


class Picture(NamedTuple):
    """What is drawn, and where it goes."""

    frame: Frame
    found: Detections
    fps: float
    drawn: np.ndarray | None = None
    """The picture, where it is drawn already."""


class Output:
    """Everything that is done with a frame once its objects are known; what is slow, in a thread of its own."""

    def __init__(self, card: ModelCard, live: Session, sinks: Mapping[str, Sink], meter: Meter, *, show: bool) -> None:
        self._card = card
        self._live = live
        self._sinks = sinks
        self._meter = meter
        self._show = show
        self._keeper = Background(self._keep, name="pictures") if sinks else None
        self.is_closed = False
        """Whether the user closed the window."""

    @property
    def skipped(self) -> int:
        """Pictures of live sources that were not kept because the disk could not follow."""
        return self._keeper.skipped if self._keeper else 0

    def put(self, frame: Frame, found: Detections, fps: float, *, is_live: bool) -> None:
        """Keep and show a frame; a live source is never held up by a slow disk."""
        picture = Picture(frame, found, fps)
        if self._show:  # windows belong to the main thread
            drawn = self._draw(picture)
            picture = picture._replace(drawn=drawn)
            self.is_closed = show_image(drawn)
        if self._keeper:
            self._keeper.put(picture, may_skip=is_live)

    def close(self, limit_s: float | None) -> bool:
        """Finish the pictures that wait, in so many seconds if given; whether that went well."""
        return self._keeper is None or self._keeper.close(limit_s)

    def _keep(self, picture: Picture) -> None:
        start = time.perf_counter()
        image = self._draw(picture) if picture.drawn is None else picture.drawn
        drawn = time.perf_counter()
        self._sinks[picture.frame.source].write(image, picture.frame)
        times_ms = {"draw": 1e3 * (drawn - start), "output": 1e3 * (time.perf_counter() - drawn)}
        self._meter.add(times_ms)
        self._live.add_times(picture.frame.source, times_ms)

    def _draw(self, picture: Picture) -> np.ndarray:
        frame, found, fps, _ = picture
        image = frame.image.copy() if self._live.page else frame.image  # the page draws from the same frame
        draw_detections(image, found)
        self._live.draw(frame.source, image)
        draw_panel(image, [f"{fps:.0f} FPS   {found.speed['inference']:.1f} ms", describe(self._card)])
        return image


@click.command()
@click.option("--model", required=True, help="A .onnx, .xml or .tflite that `export` wrote, or a folder of them.")
@click.option(
    "--runtime", "kind", type=click.Choice(["auto", *FORMATS]), default="auto", show_default=True,
    help="Of a folder: auto runs what `tune` chose for this board.",
)  # fmt: skip
@click.option(
    "--source", "sources", required=True, multiple=True, metavar="[NAME=]SOURCE", type=Url(),
    help="Camera (0, /dev/video0, csi://0, picamera://0), URL, video, image, folder, glob or synthetic; several times "
    "for several. Options follow a #: 0#size=1280x720,fps=30,format=MJPG.",
)  # fmt: skip
@click.option("--save", type=click.Path(), help="Keep the drawn pictures: a video file, or a folder for images.")
@click.option("--keep-free", type=click.FloatRange(0), help="MB that --save leaves free [default: 10 %, 1000 at most].")
@click.option(
    "--split", type=click.FloatRange(0, min_open=True), metavar="MINUTES",
    help="Begin a new video file of --save every so many minutes.",
)  # fmt: skip
@click.option(
    "--keep", type=click.FloatRange(0, min_open=True), metavar="MB",
    help="Of the files of --split keep so much, the oldest go first [default: until the disk has no room].",
)  # fmt: skip
@click.option("--show", is_flag=True, help="Show them in a window; q ends.")
@click.option("--conf", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Lowest score that counts.")
@click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice].")
@click.option("--device", help="OpenVINO: gpu, npu, ...; ONNX: cuda or tensorrt [default: the CPU].")
@click.option(
    "--parallel", type=click.IntRange(1, 16), default=1, show_default=True,
    help="Frames inferred at once, each with its share of the threads: more of them, each later.",
)  # fmt: skip
@click.option("--wait", is_flag=True, help="Try a source that is not there yet again, for ever.")
@live_options
def command(
    model: str, kind: str, sources: tuple[str, ...], save: str | None, keep_free: float | None, split: float | None,
    keep: float | None, show: bool, max_frames: int | None, threads: int | None, device: str | None, parallel: int,
    wait: bool, settings: LiveSettings,
) -> None:  # fmt: skip
    """Run a model live on cameras, streams or videos. Ctrl-C ends it and finishes the files; twice, at once."""
    opened = open_sources(sources)
    reserve = Reserve() if keep_free is None else Reserve(share=1.0, most_bytes=int(1e6 * keep_free))
    parts = read_split(save, split, keep)
    quieten_opencv()
    path, options = resolve_model(model, kind, threads=threads, device=device)
    if "threads" in options:
        cv2.setNumThreads(options["threads"])
    with catch_signals() as signals, ExitStack() as stack:
        runtime = stack.enter_context(runtimes.load(path, **options))
        sinks = open_sinks(save, opened, reserve, parts) if save else {}
        for sink in sinks.values():
            stack.enter_context(sink)
        meter, stream = Meter(), Stream(runtime.lanes(parallel), opened, is_patient=wait)
        is_images = all(isinstance(source, ImageSource) for source in opened.values())
        live = stack.enter_context(Session(settings, runtime.card, stream, is_images=is_images))
        output = Output(runtime.card, live, sinks, meter, show=show)
        stack.callback(finish, output, signals)
        click.echo(f"{describe(runtime.card)} on {', '.join(opened)}", err=True)
        if live.page:
            click.echo(f"page: {live.page.address.url}", err=True)
        signals.stop = stream.stop
        run_loop(stream, opened, live, output, meter, limit=max_frames)
        if signals.count:
            click.echo("\nstopped", err=True)
    summarize(meter, stream, live, output)
    for written in (*name_saved(save, opened, is_split=parts is not None), settings.json, settings.coco):
        if written:
            click.echo(f"wrote {written}")
    click.echo(f"next: edge-mrcnn report --help, or edge-mrcnn predict --model {path} --source FOLDER -o DIR")
    if stream.is_abandoned:
        leave(0)


def read_split(save: str | None, minutes: float | None, keep_mb: float | None) -> Split | None:
    """What `--split` and `--keep` ask for.

    Raises:
        UsageError: If what they belong to is missing.
    """
    if keep_mb is not None and minutes is None:
        raise UsageError("--keep is for the files of --split: add --split MINUTES, or see --keep-free")
    if minutes is None:
        return None
    if save is None:
        raise UsageError("--split is for a recording: add --save FILE.mp4")
    return Split(every_s=60 * minutes, most_bytes=None if keep_mb is None else int(1e6 * keep_mb))


def name_saved(save: str | None, sources: Mapping[str, Source], *, is_split: bool) -> list[str]:
    """What `--save` wrote: with several sources a file each; files of a split recording by their pattern."""
    if save is None:
        return []
    paths = [Path(save)] if len(sources) == 1 else [name_for(Path(save), name) for name in sources]
    if not is_split:
        return [str(path) for path in paths]
    return [f"{path.with_stem(f'{path.stem}-*')} ({len(find_segments(path))} files)" for path in paths]


def finish(output: Output, signals: Signals) -> None:
    """Finish the pictures that wait; after a signal not for ever, since a disk may hang and a service manager kills."""
    if not output.close(FINISH_S if signals.count else None):
        click.echo("error: the disk hangs; the last pictures are lost", err=True)
        leave(1)


def run_loop(
    stream: Stream, sources: Mapping[str, Source], live: Session, output: Output, meter: Meter, *, limit: int | None
) -> None:
    """Take frames until the sources end, the limit is reached, a signal comes or the window is closed."""
    shown, total = 0.0, sum(source.frame_count for source in sources.values())
    with closing(iter(stream)) as results:
        for frame, found in islice(results, limit):
            found = live.put(frame, found)
            meter.frames += 1
            meter.add(found.speed)
            output.put(frame, found, meter.fps, is_live=sources[frame.source].is_live)
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


def summarize(meter: Meter, stream: Stream, live: Session, output: Output) -> None:
    """Print what was done and how fast."""
    click.echo(f"{meter.frames} frames in {meter.elapsed_s:.1f} s: {meter.fps:.1f} FPS end to end")
    for status in stream.status():
        click.echo(describe_source(status))
        for line in summarize_places(live.scenes.counts(status.name)):
            click.echo(f"  {line}")
    if output.skipped:
        click.echo(f"{output.skipped} pictures were not kept: the disk or the encoder could not follow")
    if meter.frames:
        click.echo("\n".join(meter.table()))


def describe_source(status: SourceStatus) -> str:
    """What became of the frames of one source."""
    causes = ", ".join(f"{count} {cause}" for cause, count in status.dropped.items() if count)
    dropped = f", {sum(status.dropped.values())} dropped ({causes})" if causes else ""
    lost = f", {status.reconnects} reconnections" if status.reconnects else ""
    return f"{status.name}: {status.received} received, {status.processed} processed{dropped}{lost}"


def describe(card: ModelCard) -> str:
    """The model in a few words."""
    height, width = card.input_size_hw
    return f"{card.name} {card.precision} {width}x{height} {card.target}"


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


class Signals:
    """SIGINT and SIGTERM: the first lets the loop end with everything finished, the second ends the process at once."""

    def __init__(self) -> None:
        self.count = 0
        self.stop: Callable[[], None] | None = None
        """What ends the loop; before there is one, a signal raises KeyboardInterrupt."""

    def __call__(self, number: int, frame: object) -> None:
        """The signal handler."""
        self.count += 1
        if self.count > 1:
            leave(128 + number)
        if self.stop is None:
            raise KeyboardInterrupt
        self.stop()


@contextmanager
def catch_signals() -> Iterator[Signals]:
    """Handle SIGTERM as Ctrl-C, so that a service manager leaves finished files behind."""
    signals = Signals()
    previous = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def leave(code: int) -> NoReturn:
    """End the process without waiting for anything that hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

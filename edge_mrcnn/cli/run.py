"""`edge-mrcnn run`: the camera loop with its outputs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import cv2

import runtimes
from edge_mrcnn.cli.config_file import CONFIG_KEY
from edge_mrcnn.cli.credentials import Url
from edge_mrcnn.cli.defaults import choose_model, choose_sources, open_browser, show_masks
from edge_mrcnn.cli.live_options import live_options
from edge_mrcnn.cli.options import TILE_OPTIONS
from edge_mrcnn.live.loop import run_loop
from edge_mrcnn.live.scenes import summarize_places
from edge_mrcnn.live.session import Session, describe
from edge_mrcnn.live.settings import LiveSettings
from edge_mrcnn.live.signals import Signals, catch_signals, leave
from edge_mrcnn.tables import counted
from edge_mrcnn.tune.choice import resolve_model
from runtimes.formats import FORMATS
from runtimes.model_file import ModelFile
from runtimes.sources import Source, open_sources
from runtimes.sources.stride import stride_sources
from runtimes.stream import SourceStatus, Stream
from runtimes.tiling import tile_model

PROGRESS_S = 0.5
"""Seconds between two updates of the progress line."""
FINISH_S = 1.0
"""Seconds to finish waiting frames after a signal."""


def run(
    model: str | None, kind: str, sources: tuple[str, ...], vid_stride: int, max_frames: int | None,
    threads: int | None, device: str | None, parallel: int, tile: int | None, overlap: float, wait: bool,
    settings: LiveSettings,
) -> None:  # fmt: skip
    """Run a model live on cameras, streams or videos. Ctrl-C stops it and completes the output files; a second
    Ctrl-C stops it at once.

    Without options, it runs the bundled people model on the first camera and serves the live page. Without a camera,
    it shows a view that moves over photographs.
    """
    shows_masks = not model or not sources
    opened = stride_sources(open_sources(choose_sources(sources)), vid_stride)
    if shows_masks:
        settings = show_masks(settings, list(opened.values()))
    path, options = resolve_model(choose_model(model), kind, threads=threads, device=device)
    if "threads" in options:
        cv2.setNumThreads(options["threads"])
    with catch_signals() as signals, ExitStack() as stack:
        runtime = stack.enter_context(tile_model(runtimes.load(path, **options), tile, overlap))
        stream = Stream(runtime.lanes(parallel), opened, is_patient=wait, spares_still=settings.spares_still)
        session = Session(settings, runtime.card, stream, shares_frames=False, is_patient=wait, inputs=list_read(path))
        live = stack.enter_context(finished(session, signals))
        greetings = list(live.outputs.greetings())
        for line in (f"{describe(runtime.card)} on {', '.join(opened)}", *greetings):
            click.echo(line, err=True)
        if shows_masks:
            open_browser(greetings)
        signals.stop = stream.stop
        follow(stream, opened, live, limit=max_frames)
        if signals.count:
            click.echo("\nstopped", err=True)
    for line in summarize(stream, live):
        click.echo(line, err=settings.owns_standard_output)
    code = report_failures(live)
    if stream.is_abandoned:
        leave(code)
    if code:
        raise click.exceptions.Exit(code)


def build_command() -> click.Command:
    """`run` with the options of every output in the table."""
    decorated: Any = live_options(run)
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    command: click.Command = click.command("run")(decorated)
    return command


OPTIONS = (
    click.option(
        "--model",
        help="Exported model (.onnx, .xml, .tflite), folder of them, or `people`, the bundled one.  [default: people]",
    ),
    click.option(
        "--runtime", "kind", type=click.Choice(["auto", *FORMATS]), default="auto",
        show_default=True, help="Which model of a folder to run; auto takes the choice of `tune` for this board.",
    ),
    click.option(
        "--source", "sources", multiple=True, metavar="[NAME=]SOURCE", type=Url(),
        help="Camera (0, /dev/video0, csi://0, picamera://0), URL, video, image, folder, glob, photograph or "
        "synthetic; repeatable. Options follow a #: 0#size=1280x720,fps=30,format=MJPG  [default: 0, or photograph "
        "without a camera]",
    ),
    click.option(
        "--vid-stride", type=click.IntRange(1), default=1, show_default=True,
        help="Use only every Nth frame of video files.",
    ),
    click.option("--max-frames", type=click.IntRange(1), help="Stop after this many frames."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice]."),
    click.option(
        "--device", help="Device. OpenVINO: gpu, npu, ...; ONNX: cuda, tensorrt, openvino, ... [default: CPU]."
    ),
    click.option(
        "--parallel", type=click.IntRange(1, 16), default=1, show_default=True,
        help="Frames in flight; they share the CPU threads. More frames raise both throughput and latency.",
    ),
    *TILE_OPTIONS,
    click.option("--wait", is_flag=True, help="Reconnect for ever if a source is missing at start."),
)  # fmt: skip


def list_read(model: Path) -> list[Path]:
    """Files that are read besides the sources: those of the model, and the --config file."""
    config = click.get_current_context().meta.get(CONFIG_KEY)
    return [model, *ModelFile(model).files, *([config] if config else [])]


def report_failures(live: Session) -> int:
    """Print which outputs are incomplete, and return the exit code."""
    for name, reason in live.outputs.failures.items():
        click.echo(f"error: {name} is incomplete: {reason}", err=True)
    return 1 if live.outputs.failures else 0


@contextmanager
def finished(live: Session, signals: Signals) -> Iterator[Session]:
    """Finish waiting frames at the end. After a signal, do so only for a while: a disk may hang, and a service manager
    kills a process that takes too long."""
    try:
        yield live
    finally:
        live.close(FINISH_S if signals.count else None)
        if live.is_hanging:
            click.echo("error: the disk does not respond; the last frames are lost", err=True)
            leave(1)


def follow(stream: Stream, sources: Mapping[str, Source], live: Session, *, limit: int | None) -> None:
    """Run the loop, with a progress line on a terminal."""
    total = sum(source.frame_count for source in sources.values())
    shown_s = 0.0
    for _, found in run_loop(iter(stream), live, limit=limit):
        if sys.stderr.isatty() and live.meter.elapsed_s - shown_s > PROGRESS_S:
            shown_s = live.meter.elapsed_s
            click.echo(f"\r{progress(stream, live, total, len(found))}", nl=False, err=True)


def progress(stream: Stream, live: Session, total: int, objects: int) -> str:
    """The progress line."""
    of_total = f" of {total}" if total else ""
    figures = f"{live.meter.fps:.1f} FPS   {counted(objects, 'object')}   {stream.counts.dropped} dropped"
    return f"frame {live.meter.frames}{of_total}   {figures}  "


def summarize(stream: Stream, live: Session) -> Iterator[str]:
    """The summary: speed, sources, counts, and the files written."""
    meter = live.meter
    yield describe_pace(meter.frames, meter.elapsed_s)
    for status in stream.status():
        yield describe_source(status)
        for line in summarize_places(live.scenes.counts(status.name)):
            yield f"  {line}"
    yield from live.outputs.remarks()
    if meter.frames:
        yield from meter.table()
    for written in live.outputs.written():
        yield f"wrote {written}"


def describe_pace(frames: int, elapsed_s: float) -> str:
    """Such as "200 frames in 2.1 s: 96.0 FPS end to end"; a rate needs two frames."""
    duration = f"{elapsed_s:.1f} s" if elapsed_s >= 1 else f"{1000 * elapsed_s:.0f} ms"
    rate = f": {frames / elapsed_s:.1f} FPS end to end" if frames > 1 and elapsed_s > 0 else ""
    return f"{counted(frames, 'frame')} in {duration}{rate}"


def describe_source(status: SourceStatus) -> str:
    """How many frames of one source were received, processed and dropped."""
    causes = ", ".join(f"{count} {cause}" for cause, count in status.dropped.items() if count)
    dropped = f", {sum(status.dropped.values())} dropped ({causes})" if causes else ""
    lost = f", {status.reconnects} reconnections" if status.reconnects else ""
    still = f" ({status.still} still)" if status.still else ""
    return f"{status.name}: {status.received} received, {status.processed} processed{still}{dropped}{lost}"


command = build_command()

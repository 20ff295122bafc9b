"""`edge-mrcnn run`: the camera loop, with pictures, records and figures."""

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
from edge_mrcnn.cli.defaults import choose_model, choose_sources, comes_along, open_browser, show_masks
from edge_mrcnn.cli.live_options import live_options
from edge_mrcnn.cli.options import TILE_OPTIONS
from edge_mrcnn.live.loop import run_loop
from edge_mrcnn.live.scenes import summarize_places
from edge_mrcnn.live.session import Session, describe
from edge_mrcnn.live.settings import LiveSettings
from edge_mrcnn.live.signals import Signals, catch_signals, leave
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
"""How long the pictures that wait may take after a signal."""


def run(
    model: str | None, kind: str, sources: tuple[str, ...], vid_stride: int, max_frames: int | None,
    threads: int | None, device: str | None, parallel: int, tile: int | None, overlap: float, wait: bool,
    settings: LiveSettings,
) -> None:  # fmt: skip
    """Run a model live on cameras, streams or videos. Ctrl-C ends it and finishes the files; twice, at once.

    With no option at all it runs the people model that comes along on the first camera and serves the live page; where
    there is no camera, on a view over photographs.
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
    if not code:
        named = "" if comes_along(model) else f" --model {path}"
        line = f"next: edge-mrcnn predict{named} --source FOLDER -o DIR"
        click.echo(line, err=settings.owns_standard_output)
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
        help="A .onnx, .xml or .tflite that `export` wrote, or a folder of them  [default: people, which comes along]",
    ),
    click.option(
        "--runtime", "kind", type=click.Choice(["auto", *FORMATS]), default="auto",
        show_default=True, help="Of a folder: auto runs what `tune` chose for this board.",
    ),
    click.option(
        "--source", "sources", multiple=True, metavar="[NAME=]SOURCE", type=Url(),
        help="Camera (0, /dev/video0, csi://0, picamera://0), URL, video, image, folder, glob, photograph or "
        "synthetic; several times for several. Options follow a #: 0#size=1280x720,fps=30,format=MJPG  [default: 0, or "
        "photograph where there is no camera]",
    ),
    click.option(
        "--vid-stride", type=click.IntRange(1), default=1, show_default=True,
        help="Of video files every so many frames.",
    ),
    click.option("--max-frames", type=click.IntRange(1), help="Stop after so many frames."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads [default: the runtime's choice]."),
    click.option("--device", help="OpenVINO: gpu, npu, ...; ONNX: cuda, tensorrt, openvino, ... [default: the CPU]."),
    click.option(
        "--parallel", type=click.IntRange(1, 16), default=1, show_default=True,
        help="Frames inferred at once, each with its share of the threads: more of them, each later.",
    ),
    *TILE_OPTIONS,
    click.option("--wait", is_flag=True, help="Try a source that is not there yet again, for ever."),
)  # fmt: skip


def list_read(model: Path) -> list[Path]:
    """Files that are read besides sources: those of the model, and the file of options."""
    config = click.get_current_context().meta.get(CONFIG_KEY)
    return [model, *ModelFile(model).files, *([config] if config else [])]


def report_failures(live: Session) -> int:
    """Say which outputs are not complete; the exit code."""
    for name, reason in live.outputs.failures.items():
        click.echo(f"error: {name} is not complete: {reason}", err=True)
    return 1 if live.outputs.failures else 0


@contextmanager
def finished(live: Session, signals: Signals) -> Iterator[Session]:
    """Finish what waits at the end; after a signal not for ever: a disk may hang, and a service manager kills."""
    try:
        yield live
    finally:
        live.close(FINISH_S if signals.count else None)
        if live.is_hanging:
            click.echo("error: the disk hangs; the last pictures are lost", err=True)
            leave(1)


def follow(stream: Stream, sources: Mapping[str, Source], live: Session, *, limit: int | None) -> None:
    """Go through the loop, with a line about the present on a terminal."""
    total = sum(source.frame_count for source in sources.values())
    shown_s = 0.0
    for _, found in run_loop(iter(stream), live, limit=limit):
        if sys.stderr.isatty() and live.meter.elapsed_s - shown_s > PROGRESS_S:
            shown_s = live.meter.elapsed_s
            click.echo(f"\r{progress(stream, live, total, len(found))}", nl=False, err=True)


def progress(stream: Stream, live: Session, total: int, objects: int) -> str:
    """One line about the present."""
    of_total = f" of {total}" if total else ""
    figures = f"{live.meter.fps:.1f} FPS   {objects} objects   {stream.counts.dropped} dropped"
    return f"frame {live.meter.frames}{of_total}   {figures}  "


def summarize(stream: Stream, live: Session) -> Iterator[str]:
    """Lines about what was done, how fast, and where it is."""
    meter = live.meter
    yield f"{meter.frames} frames in {meter.elapsed_s:.1f} s: {meter.fps:.1f} FPS end to end"
    for status in stream.status():
        yield describe_source(status)
        for line in summarize_places(live.scenes.counts(status.name)):
            yield f"  {line}"
    yield from live.outputs.remarks()
    if meter.frames:
        yield from meter.table()
    for written in live.outputs.written():
        yield f"wrote {written}"


def describe_source(status: SourceStatus) -> str:
    """What became of the frames of one source."""
    causes = ", ".join(f"{count} {cause}" for cause, count in status.dropped.items() if count)
    dropped = f", {sum(status.dropped.values())} dropped ({causes})" if causes else ""
    lost = f", {status.reconnects} reconnections" if status.reconnects else ""
    still = f" ({status.still} still)" if status.still else ""
    return f"{status.name}: {status.received} received, {status.processed} processed{still}{dropped}{lost}"


command = build_command()

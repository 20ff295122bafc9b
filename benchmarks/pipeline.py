"""Processor time per frame from a camera's bytes to results, in all processes, compared with other programs.

    python benchmarks/pipeline.py --model runs/peers/nano-dense-320-int8.onnx -o runs/pipeline
    python benchmarks/pipeline.py --model ... --peer runs/peers/yolo11n-seg-320_int8.onnx -o runs/pipeline
    python benchmarks/pipeline.py --model ... --sources rtsp,mjpeg,raw --frames 150 -o runs/pipeline

Sources: a 1080p H.264 file; the same film from an RTSP server; JPEG pictures of 720p over HTTP; YUYV of 720p, which is
what a V4L2 camera gives, as uncompressed video over HTTP. The RTSP server needs gir1.2-gst-rtsp-server-1.0 and
python3-gi of Debian. Contenders: decoding alone and the network alone, whose sum is the lower bound; `edge-mrcnn run`
with several outputs; PyAV to RGB and `infer`; OpenCV's VideoCapture and `infer`; the `ultralytics` package on an INT8
file of its own (see `benchmarks/peers.py` for both).

With a file, the contenders take turns of a few frames, so that a busy second slows all of them alike. Live sources
cannot wait, so there the whole runs take turns. `run` drops live frames for which the model has no time, but decodes
them too: a large share of dropped frames shows that the machine was busy, and such ratios say little. For a live source
the network is also timed at the rate of the camera, since it finds less in the caches when it waits for each frame.

All runtimes have one thread. Each contender has one processor, shared with its reader process: two threads on one
physical core slow each other down. The tables show medians of the turns.

Each contender then runs once more, alone, for two figures that do not depend on the time: the memory of all its
processes, in which shared pages count once; and the bytes that memcpy and memmove copy per frame in all of them, less
those of decoding alone and of the network alone. A preloaded library counts the bytes; a C compiler is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import runtimes
from benchmarks.peers.ours import set_threshold

ROOT = Path(__file__).parents[1]
PARTS = Path(__file__).with_name("pipeline")
FPS, SIZE_HW = 30, (1080, 1920)
FILMED = 45
"""Number of painted frames; the film shows them forwards and backwards."""
FILM_FRAMES = 3600
"""Two minutes: long enough for a turn of a contender that gives 5 results a second."""
OUTPUTS = {
    "none": "",
    "JSON + tracking": "--track --json {folder}/out.jsonl --overwrite",
    "MQTT": "--mqtt {broker}",
    "page": "--web :{port}",
    "save": "--save {folder}/out.mp4 --overwrite",
}


@dataclass
class Way:
    """One contender."""

    name: str
    kind: str
    """Its name in `pipeline/way.py`."""
    model: str
    output: str = ""
    root: Path = ROOT
    """The checkout that it runs from."""
    reports: list[dict[str, float]] = field(default_factory=list)
    alone: dict[str, float] = field(default_factory=dict)
    """Its report of the turn in which it runs alone."""
    process: subprocess.Popen[str] | None = None

    def start(self, source: str, frames: int, preloaded: Mapping[str, str] | None = None) -> None:
        """Start its process and wait for the end of the warm-up. `preloaded`: more environment variables."""
        command = [sys.executable, PARTS / "way.py", self.kind, source, self.model, str(frames), self.output]
        extra = [os.environ["PEERS_PACKAGES"]] if self.kind == "ultralytics" and "PEERS_PACKAGES" in os.environ else []
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(self.root), *extra]), "OMP_NUM_THREADS": "1"}
        environment |= preloaded or {}
        self.process = subprocess.Popen(
            [str(part) for part in command], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._hear()

    def turn(self) -> None:
        """Let it process some frames."""
        assert self.process is not None and self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.reports.append(self._hear())

    def turn_alone(self, source: str, frames: int, library: Path | None, folder: Path) -> None:
        """Let a process of its own go through some frames, and count what it copies."""
        counter = folder / "copies"
        counter.write_bytes(bytes(8))
        self.start(source, frames, {"LD_PRELOAD": str(library), "COPIES": str(counter)} if library else None)
        self.turn()
        self.stop()
        self.alone = self.reports.pop()

    def stop(self) -> None:
        """End its process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()

    def _hear(self) -> dict[str, float]:
        assert self.process is not None and self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise click.ClickException(f"{self.name}: ended before its frames; is the film long enough?")
        report: dict[str, float] = json.loads(line)
        return report

    def median(self, *keys: str) -> float:
        """The median over the turns of the sum of these figures."""
        return statistics.median(sum(report.get(key, 0.0) for key in keys) for report in self.reports)

    @property
    def cpu_ms(self) -> float:
        """Processor time per frame."""
        return self.median("own_ms", "reader_ms")


def make_film(path: Path, frames: int) -> None:
    """A moving camera over painted objects, without frames that wait for later ones, as a camera encodes.

    The pictures go to and fro, and the whole cycle is encoded once: its packets are written again and again.
    """
    import av

    from edge_mrcnn.data.scenes.video import film

    pictures = []
    for image in film(seconds=FILMED / FPS, fps=FPS, size_hw=SIZE_HW, seed=0):
        pictures.append(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p"))
    pictures += pictures[-2:0:-1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "23", "preset": "veryfast", "bf": "0"})
        stream.height, stream.width = SIZE_HW
        # Each cycle begins with a key frame.
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", len(pictures)
        encoded = [bytes(packet) for picture in pictures for packet in stream.encode(picture)]
        encoded += [bytes(packet) for packet in stream.encode()]
        for index in range(frames):
            packet = av.Packet(encoded[index % len(encoded)])
            packet.stream, packet.time_base = stream, stream.codec_context.time_base
            packet.pts = packet.dts = index
            packet.is_keyframe = index % len(encoded) == 0
            container.mux(packet)


def free_port() -> int:
    """A free TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(kind: str, film: Path) -> Iterator[str]:
    """The address of a source, while it runs."""
    if kind == "file":
        yield str(film)
        return
    port = free_port()
    system = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    if kind == "rtsp":
        command = ["/usr/bin/python3", PARTS / "rtsp_film.py", port, film.resolve()]
    else:
        command, system = [sys.executable, PARTS / "servers.py", kind, port, film], dict(os.environ)
    server = subprocess.Popen([str(part) for part in command], env=system, text=True, stdout=subprocess.PIPE)
    try:
        if server.stdout is None or server.stdout.readline() != "ready\n":
            raise click.ClickException(f"the {kind} server does not start")
        yield f"rtsp://127.0.0.1:{port}/live" if kind == "rtsp" else f"http://127.0.0.1:{port}/video"
    finally:
        server.kill()
        server.communicate()


@contextmanager
def broker() -> Iterator[str]:
    """The address of a mosquitto without authentication, "" if none is installed."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if program is None:
        yield ""
        return
    port = free_port()
    process = subprocess.Popen([program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"mqtt://127.0.0.1:{port}"
    process.kill()
    process.wait()


def choose_ways(
    model: Path, peer: Path | None, before: Path | None, folder: Path, mqtt: str, only: Sequence[str], is_live: bool
) -> list[Way]:
    """All contenders, or the named ones."""
    ways = [Way(name, name, str(model)) for name in ("decode", "network")]
    if is_live:
        ways.append(Way(f"network at {FPS} FPS", "network_live", str(model)))
    for output, text in OUTPUTS.items():
        if mqtt or "{broker}" not in text:
            arguments = text.format(folder=folder, port=free_port(), broker=mqtt)
            ways.append(Way(f"run: {output}", "ours", str(model), arguments))
            if before:
                arguments = text.format(folder=folder, port=free_port(), broker=mqtt)
                ways.append(Way(f"before: {output}", "ours", str(model), arguments, before.resolve()))
    ways += [Way(name, name, str(model)) for name in ("pyav", "opencv")]
    if peer:
        ways.append(Way("ultralytics", "ultralytics", str(peer)))
    return [way for way in ways if not only or way.name in only or way.kind in only]


def measure(ways: Sequence[Way], source: str, *, is_live: bool, frames: int, rounds: int) -> None:
    """Fill in the reports of the contenders."""
    try:
        if is_live:
            for way in list(ways) * rounds:
                way.start(source, frames)
                way.turn()
                way.stop()
            return
        for way in ways:
            way.start(source, frames)
        for _ in range(rounds):
            for way in ways:
                way.turn()
    finally:
        for way in ways:
            way.stop()


def build_counter(folder: Path) -> Path | None:
    """The library that counts copies; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        click.echo("there is no C compiler, so copies are not counted", err=True)
        return None
    library = folder / "copies.so"
    command = [compiler, "-O2", "-fno-builtin", "-shared", "-fPIC", "-o", library, PARTS / "copies.c", "-ldl"]
    subprocess.run([str(part) for part in command], check=True)
    return library


def report(title: str, ways: Sequence[Way]) -> str:
    """A table; the ratio is to decoding and network together."""
    bases = [way for way in ways if way.kind in ("decode", "network")]
    floor, floor_mb = sum(way.cpu_ms for way in bases), sum(way.alone["copied_mb"] for way in bases)
    lines = [
        f"| {title} | processor ms | of them in the reader | x (decode + network) | MB copied | memory MB "
        "| age p50/p99 ms | dropped |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for way in ways:
        ratio = f"{way.cpu_ms / floor:.2f}" if floor else ""
        copied_mb = way.alone["copied_mb"] - (0 if way in bases else floor_mb)
        copied = f"{copied_mb:.2f}" if way.alone["copied_mb"] else ""
        # The age of a frame is only meaningful for live sources.
        has_ages = title != "file" and way.median("age_p50_ms") > 0
        ages = f"{way.median('age_p50_ms'):.0f} / {way.median('age_p99_ms'):.0f}" if has_ages else ""
        dropped = f"{way.median('dropped'):.0%}" if has_ages else ""
        lines.append(
            f"| {way.name} | {way.cpu_ms:.2f} | {way.median('reader_ms'):.2f} | {ratio} | {copied} "
            f"| {way.alone['memory_mb']:.0f} | {ages} | {dropped} |"
        )
    return "\n".join(lines)


def find_objects(model: Path, film: Path, count: int, folder: Path) -> Path:
    """A copy of a model with random weights whose score threshold gives about this number of objects in the film's
    frames."""
    import av

    with runtimes.load(set_threshold(model, 1e-6, folder)) as runtime, av.open(str(film)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 0, FILMED, 5)]
        scores = [np.sort(runtime.infer(image).scores)[::-1] for image in images]
    threshold = statistics.median(float(own[count - 1] + own[count]) / 2 for own in scores)
    return set_threshold(model, threshold, folder)


@click.command()
@click.option("--model", required=True, type=click.Path(exists=True, path_type=Path), help="Of ours, INT8.")
@click.option("--peer", type=click.Path(exists=True, path_type=Path), help="Of ultralytics, INT8.")
@click.option("--before", type=click.Path(exists=True, path_type=Path), help="Another checkout, to compare with.")
@click.option("--sources", default="file,rtsp,mjpeg,raw", show_default=True)
@click.option("--ways", default="", help="Only these: their names, or decode, network, ours, pyav, opencv.")
@click.option("--objects", type=int, help="Of a model with random weights: the objects that it finds in a frame.")
@click.option("--frames", default=15, show_default=True, help="Frames of a turn.")
@click.option("--live-frames", default=150, show_default=True, help="Frames of a turn of a live source.")
@click.option("--rounds", default=20, show_default=True, help="Turns of each way of a file; a live source has a fifth.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of film and tables.")
def main(
    model: Path, peer: Path | None, before: Path | None, sources: str, ways: str, objects: int | None,
    frames: int, live_frames: int, rounds: int, output: Path,
) -> None:  # fmt: skip
    """Print a table per source."""
    output.mkdir(parents=True, exist_ok=True)
    film = output / "film.mp4"
    if not film.is_file():
        click.echo("painting the film", err=True)
        make_film(film, FILM_FRAMES)
    tables = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        if objects is not None:
            model = find_objects(model, film, objects, folder)
        mqtt = stack.enter_context(broker())
        library = build_counter(folder)
        only = ways.split(",") if ways else ()
        for kind in sources.split(","):
            is_live = kind != "file"
            contenders = choose_ways(model, peer, before, folder, mqtt, only, is_live)
            turns: dict[str, Any] = {"frames": live_frames, "rounds": max(1, rounds // 5)} if is_live else {
                "frames": frames, "rounds": rounds
            }  # fmt: skip
            with serving(kind, film) as source:
                measure(contenders, source, is_live=is_live, **turns)
                for way in contenders:
                    way.turn_alone(source, live_frames if is_live else 4 * frames, library, folder)
            tables.append(report(kind, contenders))
            click.echo(f"{tables[-1]}\n")
    (output / "pipeline.md").write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main()

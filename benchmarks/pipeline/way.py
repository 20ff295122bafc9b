"""One contender, from a source to results, in a process of its own: way.py NAME SOURCE MODEL FRAMES [OUTPUT].

Prints a line of JSON after the warm-up and after every FRAMES frames, and waits for a line after each: milliseconds of
processor time per frame of this process and its children, their memory, and the bytes that they copied.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO
from urllib.request import urlopen

WARM_UP = 30
"""Frames of the warm-up."""


def own_children() -> list[int]:
    """Child processes that are alive."""
    pids: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # the thread has ended since it was listed
            pids += map(int, (task / "children").read_text().split())
    return pids


def children_s() -> float:
    """Processor time of the children so far, in seconds."""
    spent_ns = 0
    for pid in own_children():
        for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with suppress(OSError):
                spent_ns += int(file.read_text().split()[0])
    return spent_ns / 1e9


def memory_mb(pid: int | str) -> float:
    """Memory of a process, in MB; of what it shares with others, its part (proportional set size)."""
    with suppress(OSError):  # the process has ended since it was listed
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    return 0.0


def copied_mb() -> float:
    """What all processes of this way have copied so far, in MB; 0 where it is not counted, see `copies.c`."""
    path = os.environ.get("COPIES")
    return int.from_bytes(Path(path).read_bytes(), sys.byteorder) / 1e6 if path else 0.0


class Meter:
    """Releases frames in turns: reports the cost and waits for a line on stdin before the next turn. A turn's cost is
    the processor time of all processes since the beginning of the turn before, which includes frames that are read
    ahead during the turns of others."""

    def __init__(self, frames: int, told: TextIO) -> None:
        self.ages_ms: list[float] = []
        """Milliseconds from the arrival of each frame to its result, if known."""
        self.index = 0
        """Number of the latest frame among all that the source sent, if known."""
        self._frames = frames
        self._told = told
        self._begin = (0.0, 0.0, 0.0)
        self._begin_index = 0

    def wrap(self, results: Iterator[Any]) -> Iterator[Any]:
        """The same, for each turn."""
        for count, result in enumerate(results):
            if count >= WARM_UP and (count - WARM_UP) % self._frames == 0:
                self._tell()
                if not sys.stdin.readline():
                    return
                self.ages_ms.clear()
            yield result

    def _tell(self) -> None:
        now = time.process_time(), children_s(), copied_mb()
        own, others, copied = (after - before for after, before in zip(now, self._begin, strict=True))
        self._begin = now
        report = {
            "own_ms": 1e3 * own / self._frames,
            "reader_ms": 1e3 * others / self._frames,
            "copied_mb": copied / self._frames,
            "memory_mb": memory_mb("self") + sum(map(memory_mb, own_children())),
        }
        sent = self.index - self._begin_index
        self._begin_index = self.index
        if sent:
            report["dropped"] = 1 - self._frames / sent
        ages = sorted(self.ages_ms)
        if ages:
            report |= {"age_p50_ms": ages[len(ages) // 2], "age_p99_ms": ages[int(len(ages) * 0.99)]}
        print(json.dumps(report), file=self._told, flush=True)


def decode(source: str, model: str, meter: Meter, output: str) -> None:
    """Decode and do nothing else."""
    for _ in meter.wrap(decoded(source)):
        pass


def decoded(source: str) -> Iterator[Any]:
    """Frames as they come from the decoder, by PyAV."""
    import av

    options = {"rtsp_transport": "tcp"} if source.startswith("rtsp") else {}
    with av.open(source, options=options) as container:
        video = container.streams.video[0]
        video.thread_type = "SLICE" if "://" in source else "AUTO"
        yield from container.decode(video)


def network(source: str, model: str, meter: Meter, output: str) -> None:
    """Run the network alone, on a picture of the source."""
    run_network(source, model, meter, None)


def network_live(source: str, model: str, meter: Meter, output: str) -> None:
    """Run the network alone 30 times a second, as a camera's frames come: between them the caches are lost."""
    run_network(source, model, meter, 30.0)


def run_network(source: str, model: str, meter: Meter, fps: float | None) -> None:
    """Run the network alone at this rate; None is without a break."""
    import runtimes
    from runtimes.preprocess import letterbox

    with runtimes.load(model, threads=1) as runtime:
        frame = next(decoded(source))
        x, _ = letterbox(frame.to_ndarray(format="rgb24"), runtime.card)
        start = time.monotonic()
        for count, _ in enumerate(meter.wrap(runtime.run(x) for _ in range(10**9)), 1):
            if fps is not None:
                time.sleep(max(0.0, start + count / fps - time.monotonic()))


def pyav(source: str, model: str, meter: Meter, output: str) -> None:
    """PyAV to RGB, and our `infer`."""
    import runtimes

    with runtimes.load(model, threads=1) as runtime:
        frames = (frame.to_ndarray(format="rgb24") for frame in decoded(source))
        for _ in meter.wrap(runtime.infer(image) for image in frames):
            pass


def opencv(source: str, model: str, meter: Meter, output: str) -> None:
    """OpenCV's VideoCapture, and our `infer`."""
    import cv2

    import runtimes

    capture = cv2.VideoCapture(source)
    with runtimes.load(model, threads=1) as runtime:
        for _ in meter.wrap(runtime.infer(image, order="bgr") for image in captured(capture)):
            pass


def captured(capture: Any) -> Iterator[Any]:
    """BGR pictures of an OpenCV capture."""
    while (answer := capture.read())[0]:
        yield answer[1]


def ultralytics(source: str, model: str, meter: Meter, output: str) -> None:
    """The `ultralytics` package on a file of its own."""
    os.environ.setdefault("YOLO_AUTOINSTALL", "false")
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(1)
    size = int(Path(model).stem.split("-")[2].split("_")[0])
    predictor = YOLO(model, task="segment")
    for _ in meter.wrap(predictor.predict(source, stream=True, imgsz=size, verbose=False, device="cpu")):
        pass


def ours(source: str, model: str, meter: Meter, output: str) -> None:
    """`edge-mrcnn run` with the options of a user."""
    from edge_mrcnn.cli import run

    loop = run.run_loop

    def counted(results: Any, session: Any, **options: Any) -> Iterator[Any]:
        for frame, found in meter.wrap(loop(results, session, **options)):
            meter.ages_ms.append(1e3 * (time.monotonic() - frame.arrived))
            meter.index = frame.index
            yield frame, found

    run.run_loop = counted
    arguments = ["--model", model, "--source", source, "--threads", "1"]
    arguments += output.split()
    if "--web" in arguments:
        port = arguments[arguments.index("--web") + 1]
        threading.Thread(target=look, args=(port,), daemon=True).start()
    run.command.main(arguments, standalone_mode=False)


def look(port: str) -> None:
    """A viewer of the page in a process of its own, which is not counted."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for _ in range(100):
        time.sleep(0.2)
        try:
            with urlopen(f"http://127.0.0.1{port}/stream.mjpg?source=0", timeout=10) as answer:
                while answer.read(65536):
                    pass
        except OSError:
            continue
    os._exit(0)


WAYS: dict[str, Callable[[str, str, Meter, str], None]] = {
    function.__name__: function for function in (decode, network, network_live, ours, opencv, pyav, ultralytics)
}


def main() -> None:
    name, source, model, frames, *output = sys.argv[1:]
    logging.disable(logging.WARNING)
    # Pin to one core: two threads that share a core slow each other down, and so do other processes.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    told, sys.stdout = sys.stdout, sys.stderr
    meter = Meter(int(frames), told)
    WAYS[name](source, model, meter, output[0] if output else "")
    os._exit(0)


if __name__ == "__main__":
    main()

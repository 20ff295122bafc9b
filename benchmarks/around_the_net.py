"""Measure the stages around the network: letterbox, mapping, contours and drawing on a 1080p frame with 20 objects.

python benchmarks/around_the_net.py model.xml
python benchmarks/around_the_net.py model.xml --clock cpu --threads 1    # while the machine does other work

Goal: at most 10 % of the time of a frame, which is everything from the captured frame in memory to the drawn picture.

The first table times one stage after the other in the order of a frame. The caches are then as in a camera loop: mostly
filled by the network. Its shares are of the frame's median. The second table times the loop of `run`, which draws one
frame while it infers the next: blocks of frames with and without drawing, in turn. The third table times the optional
stages.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from numpy.typing import NDArray

import runtimes
from edge_mrcnn.live.pictures import SIDES
from edge_mrcnn.live.result import shrink
from runtimes import Detections
from runtimes.draw import draw_detections
from runtimes.preprocess import letterbox
from runtimes.sinks import Background
from runtimes.sources.synthetic import MovingShapes

SIZE_HW = (1080, 1920)
GOAL = 0.1
"""Largest share of a frame's time for all stages around the network."""
ALWAYS = ("letterbox", "mapping")
DRAWN = ("contours", "drawing")
"""Only with viewers or a recording."""
STAGES = ("letterbox", "network", "mapping", "contours", "drawing")
"""The stages of a frame, in order."""
ASKED = ("page", "pixels", "COCO encoding", "dense masks")
"""The page's picture, shrunk, with contours and drawing, without JPEG; masks as pixels and what is computed from
them."""
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
"""CPU time is that of all threads of the process."""
BLOCK = 10
"""Frames of the loop with drawing, then as many without."""
WARM_UP = 3


class Clock:
    """Milliseconds of each stage of each frame."""

    def __init__(self, read_s: Callable[[], float]) -> None:
        self._read_s = read_s
        self._times: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body of a `with` statement."""
        start = self._read_s()
        yield
        self.add(name, 1e3 * (self._read_s() - start))

    def add(self, name: str, time_ms: float) -> None:
        """Note the time of a stage."""
        self._times[name].append(time_ms)

    def of(self, *names: str) -> NDArray[np.float64]:
        """The time of these stages together in each frame, in milliseconds."""
        times: NDArray[np.float64] = np.sum([self._times[name][WARM_UP:] for name in names], axis=0)
        return times


def make_detections(count: int, card: runtimes.ModelCard, rng: np.random.Generator) -> Detections:
    """Objects with sides of 4 to 40 % of the height, as many large as small ones, their masks round."""
    height, width = SIZE_HW
    sides = np.exp(rng.uniform(np.log(0.04), np.log(0.4), (count, 2))) * height
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([width, height]) - sides)
    axis = np.linspace(-1, 1, card.mask_size, dtype=np.float32)
    disc = np.clip(1.5 - np.hypot(axis, axis[:, None]), 0, 1)
    return Detections(
        boxes_xyxy=np.concatenate([corners, corners + sides], axis=1).astype(np.float32),
        scores=np.sort(rng.uniform(0.5, 1, count))[::-1].astype(np.float32),
        labels=rng.integers(0, len(card.classes), count),
        mask_probs=np.repeat(disc[None], count, axis=0),
        image_size_hw=SIZE_HW,
        names=card.classes,
        category_ids=card.category_ids,
    )


def time_stages(model: runtimes.Runtime, found: Detections, clock: Clock, frames: int) -> None:
    """One stage of a frame after the other."""
    scene = MovingShapes(SIZE_HW, seed=0)
    for number in range(frames + WARM_UP):
        image = scene.draw(number / 10)
        fresh = found[:]  # a new object each time: one object traces its contours only once
        with clock.stage("letterbox"):
            x, box = letterbox(image, model.card)
        with clock.stage("network"):
            model.run(x)
        with clock.stage("mapping"):
            box.map_boxes(found.boxes_xyxy)
        with clock.stage("contours"):
            _ = fresh.masks.contours
        with clock.stage("drawing"):
            draw_detections(image, fresh)


def time_asked(found: Detections, clock: Clock, frames: int) -> None:
    """The optional stages of a frame."""
    image = MovingShapes(SIZE_HW, seed=0).draw(0)
    for _ in range(frames + WARM_UP):
        fresh = found[:]
        with clock.stage("page"):
            draw_detections(*shrink(image, fresh, SIDES["large"]))
        with clock.stage("pixels"):
            _ = fresh.masks.regions
        with clock.stage("COCO encoding"):
            _ = fresh.masks.rle
        with clock.stage("dense masks"):
            _ = fresh.masks.data


def time_loop(model: runtimes.Runtime, found: Detections, blocks: int) -> Clock:
    """Frames inferred while those before are drawn in another thread, and the same without drawing; wall time."""

    def draw(image: NDArray[np.uint8]) -> None:
        draw_detections(image, found[:])

    scene, clock = MovingShapes(SIZE_HW, seed=0), Clock(time.perf_counter)
    images = [scene.draw(number / 10) for number in range(BLOCK)]
    for _ in range(blocks + WARM_UP):
        for name in ("undrawn", "drawn"):
            artist = Background(draw, name="pictures")
            network_ms = 0.0
            with clock.stage(name):
                for image in images:
                    network_ms += model.infer(image).speed["inference"]
                    if name == "drawn":
                        artist.put(image, may_skip=False)
                artist.close()
            if name == "undrawn":  # not while drawing, which takes processor time from the network
                clock.add("network", network_ms)
    return clock


def report_stages(clock: Clock) -> None:
    """Print the first table."""
    frame = np.median(clock.of(*STAGES))
    print(f"{'one after the other':<28}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'share':>9}")
    groups = {name: (name,) for name in STAGES} | {"frame": STAGES, "frame but the network": ALWAYS + DRAWN}
    for name, stages in groups.items():
        print_row(name, clock.of(*stages), frame)
    undrawn = np.median(clock.of("network", *ALWAYS))
    print_row("the same if nobody looks", clock.of(*ALWAYS), undrawn)


def report_loop(clock: Clock) -> None:
    """Print the second table; differences are those of neighbouring blocks."""
    network, undrawn, drawn = (clock.of(name) / BLOCK for name in ("network", "undrawn", "drawn"))
    print(f"\n{f'in the loop, wall, by {BLOCK}s':<28}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'share':>9}")
    print_row("network", network)
    print_row("frame, nobody looks", undrawn)
    print_row("  frame but the network", undrawn - network, np.median(undrawn))
    print_row("frame, drawn beside the next", drawn)
    print_row("  frame but the network", drawn - network, np.median(drawn))
    print_row("  longer by drawing", drawn - undrawn, np.median(drawn))


def report_asked(clock: Clock) -> None:
    """Print the third table."""
    print(f"\n{'only if asked for':<28}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}")
    for name in ASKED:
        print_row(name, clock.of(name))


def print_row(name: str, times_ms: NDArray[np.float64], whole_ms: float | None = None) -> None:
    """A row with percentiles, and the median's share of a whole."""
    p50, p90, p99 = np.percentile(times_ms, [50, 90, 99])
    share = f"{p50 / whole_ms:.1%}" if whole_ms else ""
    print(f"{name:<28}{p50:>9.2f}{p90:>9.2f}{p99:>9.2f}{share:>9}".rstrip())


def main(arguments: Iterable[str] | None = None) -> None:
    """Print the tables of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a file that `export` or `quantize` wrote")
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="of the runtime and of OpenCV")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="of the first and the third table")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(options.threads)
    for path in options.models:
        print(f"\n{path}: {options.objects} objects on {SIZE_HW[1]}x{SIZE_HW[0]}, {options.threads} threads, "
              f"{options.clock} time; goal: at most {GOAL:.0%} but the network\n")  # fmt: skip
        clock = Clock(CLOCKS[options.clock])
        with runtimes.load(path, threads=options.threads) as model:
            found = make_detections(options.objects, model.card, np.random.default_rng(0))
            time_stages(model, found, clock, options.frames)
            time_asked(found, clock, options.frames)
            report_stages(clock)
            report_loop(time_loop(model, found, options.frames // BLOCK))
        report_asked(clock)


if __name__ == "__main__":
    main()

"""What surrounds the network costs: letterbox, mapping, contours and drawing on a 1080p frame with 20 objects.

python benchmarks/around_the_net.py model.xml model.onnx model.tflite

Goal: at most 10 % of the time of a frame. Stages are timed in turn, frame by frame, so that a busy machine slows all of
them alike; shares are those of medians. Then the loop as `run` has it, which draws one frame while it infers the next:
some frames with drawing, some without, in turn.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cv2
import numpy as np

import runtimes
from edge_mrcnn.live.pictures import SIDES, shrink
from runtimes import Detections
from runtimes.draw import draw_detections
from runtimes.preprocess import letterbox
from runtimes.sinks import Background
from runtimes.sources.synthetic import Scene

SIZE_HW = (1080, 1920)
ALWAYS = ("letterbox", "mapping")
DRAWN = ("contours", "drawing")
"""Only while somebody looks or records."""
OPTIONAL = ("page", "pixels", "COCO encoding", "dense masks")
"""Instead of drawing all of the frame: the same at the size of the page, without JPEG. The others if asked for."""
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
        """Time what happens inside."""
        start = self._read_s()
        yield
        self._times[name].append(1e3 * (self._read_s() - start))

    def percentiles(self, name: str) -> np.ndarray:
        """The 50th, 90th and 99th percentile in milliseconds."""
        return np.percentile(self._times[name][WARM_UP:], [50, 90, 99])


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


def time_stages(model: runtimes.Runtime, found: Detections, clock: Clock, frames: int) -> Clock:
    """One stage after the other."""
    scene = Scene(SIZE_HW, seed=0)
    for number in range(frames + WARM_UP):
        image = scene.draw(number / 10)
        with clock.stage("letterbox"):
            x, box = letterbox(image, model.card)
        with clock.stage("network"):
            model.run(x)
        with clock.stage("mapping"):
            box.map_boxes(found.boxes_xyxy)
        fresh = found[:]  # contours are traced once and kept
        with clock.stage("page"):
            draw_detections(*shrink(image, fresh, SIDES["large"]))
        with clock.stage("contours"):
            _ = fresh.masks.contours
        with clock.stage("drawing"):
            draw_detections(image, fresh)
        with clock.stage("pixels"):
            _ = fresh.masks.regions
        with clock.stage("COCO encoding"):
            _ = fresh.masks.rle
        with clock.stage("dense masks"):
            _ = fresh.masks.data
    return clock


def time_loop(model: runtimes.Runtime, found: Detections, blocks: int) -> Clock:
    """Frames inferred while those before are drawn in another thread, and the same without drawing."""
    scene, clock = Scene(SIZE_HW, seed=0), Clock(time.perf_counter)
    images = [scene.draw(number / 10) for number in range(BLOCK)]
    for _ in range(blocks + WARM_UP):
        for name in ("undrawn", "drawn"):
            artist = Background(lambda image: draw_detections(image, found[:]), name="pictures")
            with clock.stage(name):
                for image in images:
                    model.infer(image)
                    if name == "drawn":
                        artist.put(image, may_skip=False)
                artist.close()
    return clock


def report(path: str, stages: Clock, loop: Clock) -> None:
    """Print the table of one model."""
    median = {name: stages.percentiles(name)[0] for name in (*ALWAYS, "network", *DRAWN)}
    print(f"\n{path}\n{'stage':<16}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'share':>9}")
    for name in (*ALWAYS, "network", *DRAWN, *OPTIONAL):
        p50, p90, p99 = stages.percentiles(name)
        share = f"{p50 / sum(median.values()):.1%}" if name in median else ""
        print(f"{name if share else f'({name})':<16}{p50:>9.2f}{p90:>9.2f}{p99:>9.2f}{share:>9}")
    always = sum(median[name] for name in ALWAYS)
    drawn = always + sum(median[name] for name in DRAWN)
    for name, around in (("nobody looks", always), ("drawn, one after the other", drawn)):
        print(f"{name}: {around:.2f} ms around {median['network']:.2f}, {around / (around + median['network']):.1%}")
    undrawn, with_drawing = (loop.percentiles(name)[0] / BLOCK for name in ("undrawn", "drawn"))
    more = with_drawing - undrawn
    print(f"drawn beside the next inference: {undrawn:.2f} -> {with_drawing:.2f} ms a frame, {more / with_drawing:.1%}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu", action="store_true", help="CPU time of the stages, for a machine that does other work")
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    print(f"{options.objects} objects on {SIZE_HW[1]}x{SIZE_HW[0]}, {options.threads} threads; goal: at most 10 %")
    for path in options.models:
        with runtimes.load(path, threads=options.threads) as model:
            found = make_detections(options.objects, model.card, np.random.default_rng(0))
            clock = Clock(time.process_time if options.cpu else time.perf_counter)
            stages = time_stages(model, found, clock, options.frames)
            loop = time_loop(model, found, options.frames // BLOCK)
        report(path, stages, loop)


if __name__ == "__main__":
    main()

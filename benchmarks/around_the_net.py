"""What surrounds the network costs: letterbox, mapping, masks and drawing on a 1080p frame with 20 objects.

python benchmarks/around_the_net.py model.tflite

Goal: at most 10 % of the time of a frame. Stages are timed in turn, frame by frame, so that a busy machine slows all of
them alike; the share is that of medians.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict

import cv2
import numpy as np

import runtimes
from runtimes import Detections
from runtimes.draw import draw_detections
from runtimes.preprocess import letterbox
from runtimes.sources.synthetic import Scene

SIZE_HW = (1080, 1920)
AROUND = ("letterbox", "mapping", "masks", "drawing")
"""Stages that count; COCO encoding and dense masks are timed too, but only made when asked for."""


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


def measure(model: runtimes.Runtime, found: Detections, frames: int) -> dict[str, np.ndarray]:
    """Milliseconds of each stage of each frame."""
    scene = Scene(SIZE_HW, seed=0)
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(frames):
        image = scene.draw(number / 10)
        marks = [("", time.perf_counter())]

        def mark(stage: str, marks: list[tuple[str, float]] = marks) -> None:
            marks.append((stage, time.perf_counter()))

        x, box = letterbox(image, model.card)
        mark("letterbox")
        model.run(x)
        mark("network")
        box.map_boxes(found.boxes_xyxy)
        fresh = found[:]  # masks are pasted once and kept
        mark("mapping")
        _ = fresh.masks.regions
        mark("masks")
        draw_detections(image, fresh)
        mark("drawing")
        _ = fresh.masks.rle
        mark("(COCO encoding)")
        _ = fresh.masks.data
        mark("(dense masks)")
        for (_, before), (stage, after) in zip(marks, marks[1:], strict=False):
            times[stage].append(1e3 * (after - before))
    return {stage: np.array(values[3:]) for stage, values in times.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    with runtimes.load(options.model, threads=options.threads) as model:
        found = make_detections(options.objects, model.card, np.random.default_rng(0))
        times = measure(model, found, options.frames)
    frame_ms = sum(np.median(times[stage]) for stage in (*AROUND, "network"))
    print(f"{options.model}: {options.objects} objects on {SIZE_HW[1]}x{SIZE_HW[0]}, {options.threads} threads")
    print(f"{'stage':<18}{'p50 ms':>9}{'p90 ms':>9}{'p99 ms':>9}{'share':>8}")
    for stage, values in times.items():
        p50, p90, p99 = np.percentile(values, [50, 90, 99])
        share = "" if stage.startswith("(") else f"{p50 / frame_ms:.1%}"
        print(f"{stage:<18}{p50:>9.2f}{p90:>9.2f}{p99:>9.2f}{share:>8}")
    around = sum(np.median(times[stage]) for stage in AROUND)
    print(f"around the network: {around:.2f} ms of {frame_ms:.2f} ms, {around / frame_ms:.1%} (goal: at most 10 %)")


if __name__ == "__main__":
    main()

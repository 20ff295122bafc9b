"""State for the page, as JSON: model, health, and each source with its counts and times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edge_mrcnn import __version__
from edge_mrcnn.live.controls import Controls
from edge_mrcnn.live.facts import describe_objects
from edge_mrcnn.live.monitor import Histogram, Monitor
from edge_mrcnn.live.scenes import Scenes
from runtimes import ModelCard
from runtimes.draw import PALETTE
from runtimes.redaction import redact
from runtimes.stream import SourceStatus


def describe_state(card: ModelCard, monitor: Monitor, controls: Controls, scenes: Scenes) -> dict[str, Any]:
    """Everything on the page that changes; sources are in the order of the stream."""
    health = monitor.health()
    return {
        "model": describe_model(card),
        "version": __version__,
        "ok": health.is_ok,
        "why": redact(health.reason),
        "uptime_s": round(monitor.uptime_s, 1),
        "conf": controls.conf,
        "keep_conf": max(scenes.lowest_score, card.score_threshold),
        "min_conf": card.score_threshold,
        "sources": [source for _, source in describe_sources(monitor, scenes)],
    }


def describe_sources(monitor: Monitor, scenes: Scenes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Label and state of each source, in the order of the stream."""
    times = monitor.times()
    for status in monitor.status():
        yield status.name, describe_source(status, times, monitor, scenes)


def describe_views(
    monitor: Monitor, scenes: Scenes, pixel_mm: float | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same, with every object of the last frame as `detections`; see `describe_objects`."""
    for name, state in describe_sources(monitor, scenes):
        found = monitor.last(name)
        detections = [] if found is None else describe_objects(found, pixel_mm)
        yield name, {**state, "detections": detections}


def describe_model(card: ModelCard) -> dict[str, Any]:
    """The model, from its card."""
    height, width = card.input_size_hw
    return {
        "name": card.name,
        "precision": card.precision,
        "target": card.target,
        "input": f"{width}×{height}",
        "classes": list(card.classes),
        "colors": ["#" + bytes(PALETTE[label % len(PALETTE)]).hex() for label in range(len(card.classes))],
    }


def describe_source(
    status: SourceStatus, times: dict[tuple[str, str], Histogram], monitor: Monitor, scenes: Scenes
) -> dict[str, Any]:
    """One source: its state, frame counts, objects in view, and percentiles of each stage."""
    age_s = status.last_frame_age_s
    stages = {stage: histogram for (source, stage), histogram in times.items() if source == status.name}
    return {
        "name": redact(status.name),
        "state": status.state,
        "error": redact(status.error),
        "received": status.received,
        "processed": status.processed,
        "still": status.still,
        "dropped": {cause: count for cause, count in status.dropped.items() if count},
        "in_flight": status.in_flight,
        "reconnects": status.reconnects,
        "stalls": status.stalls,
        "age_s": None if age_s is None else round(age_s, 2),
        "fps": round(status.fps, 2),
        "source_fps": round(status.source_fps, 2),
        "size": list(status.size_hw) if status.size_hw else None,
        "objects": dict(monitor.objects(status.name).most_common()),
        "present": scenes.present(status.name),
        "counts": scenes.counts(status.name),
        "stages": {stage: _describe_stage(histogram) for stage, histogram in stages.items()},
    }


def _describe_stage(histogram: Histogram) -> dict[str, float]:
    p50, p90 = histogram.percentiles_ms(50, 90)
    return {"p50": round(p50, 2), "p90": round(p90, 2)}

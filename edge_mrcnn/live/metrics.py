"""The monitor as Prometheus text, format 0.0.4.

The text is written without a client library, because the format is simple. Sources are labelled by name, never by URL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate

from edge_mrcnn import __version__
from edge_mrcnn.live.monitor import BUCKETS_S, Histogram, Monitor
from edge_mrcnn.live.names import name_publicly
from runtimes import ModelCard
from runtimes.redaction import redact
from runtimes.stream import STATES, SourceStatus

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "edge_mrcnn"
Sample = tuple[dict[str, str], float]
"""Labels and value."""
Samples = Iterable[Sample]


def render_metrics(monitor: Monitor, card: ModelCard, extra: Iterable[tuple[str, str, Samples]] = ()) -> str:
    """All metrics as text.

    Args:
        monitor: What was measured.
        card: The model, for `edge_mrcnn_info`.
        extra: Counters of the outputs: name without prefix and `_total`, help line, samples.
    """
    model = {
        "model": card.name,
        "precision": card.precision,
        "target": card.target,
        "version": __version__,
    }
    statuses = list(monitor.status())
    names = name_publicly(status.name for status in statuses)
    lines = [
        *_render("info", "gauge", "The running model.", [(model, 1)]),
        *_render("healthy", "gauge", "1 while frames are processed.", [({}, monitor.health().is_ok)]),
        *_render_sources(statuses, names),
        *_render_found(monitor, names),
        *_render_times(monitor.times(), names),
    ]
    for name, help_line, samples in extra:
        lines += _render(f"{name}_total", "counter", help_line, samples)
    return "\n".join(lines) + "\n"


def _render_sources(statuses: list[SourceStatus], names: dict[str, str]) -> Iterator[str]:
    def labelled(name: str) -> Samples:
        return [({"source": names[status.name]}, getattr(status, name)) for status in statuses]

    dropped: list[Sample] = []
    ages: list[Sample] = []
    states: list[Sample] = []
    for status in statuses:
        source = names[status.name]
        for cause, count in status.dropped.items():
            dropped.append(({"source": source, "cause": cause}, count))
        if status.last_frame_age_s is not None:
            ages.append(({"source": source}, status.last_frame_age_s))
        for state in STATES:
            states.append(({"source": source, "state": state}, status.state == state))

    yield from _render("frames_received_total", "counter", "Frames received from the source.", labelled("received"))
    yield from _render("frames_processed_total", "counter", "Frames processed.", labelled("processed"))
    yield from _render(
        "frames_still_total", "counter", "Processed frames without inference, because nothing moved.", labelled("still")
    )
    yield from _render("frames_dropped_total", "counter", "Dropped frames, by cause.", dropped)
    yield from _render("frames_in_flight", "gauge", "Frames in flight.", labelled("in_flight"))
    yield from _render("reconnects_total", "counter", "Reconnections of the source.", labelled("reconnects"))
    yield from _render("stalls_total", "counter", "Stalls of the source.", labelled("stalls"))
    yield from _render("source_fps", "gauge", "Frames per second received from the source.", labelled("source_fps"))
    yield from _render("processed_fps", "gauge", "Frames per second processed.", labelled("fps"))
    yield from _render("last_frame_age_seconds", "gauge", "Age of the newest frame.", ages)
    yield from _render("source_state", "gauge", "1 for the current state of the source.", states)


def _render_found(monitor: Monitor, names: dict[str, str]) -> Iterator[str]:
    total: list[Sample] = []
    present: list[Sample] = []
    for (source, name), count in monitor.found().items():
        labels = {"source": names[source], "class": name}
        total.append((labels, count))
        present.append((labels, monitor.objects(source)[name]))
    yield from _render("objects_total", "counter", "Detected objects, summed over all frames.", total)
    yield from _render("objects", "gauge", "Objects in the last frame.", present)


def _render_times(times: dict[tuple[str, str], Histogram], names: dict[str, str]) -> Iterator[str]:
    name = f"{PREFIX}_stage_seconds"
    yield from _render("stage_seconds", "histogram", "Time of each stage of a frame.", [])
    for (source, stage), histogram in times.items():
        labels = {"source": names[source], "stage": stage}
        upto = accumulate(histogram.counts)  # A bucket also counts the values of all smaller buckets.
        for bound, count in zip((*BUCKETS_S, "+Inf"), upto, strict=True):
            bucket = _label({**labels, "le": str(bound)})
            yield f"{name}_bucket{bucket} {count}"
        yield f"{name}_sum{_label(labels)} {histogram.sum_s:.9f}"
        yield f"{name}_count{_label(labels)} {sum(histogram.counts)}"


def _render(name: str, kind: str, help_line: str, samples: Samples) -> Iterator[str]:
    yield f"# HELP {PREFIX}_{name} {help_line}"
    yield f"# TYPE {PREFIX}_{name} {kind}"
    for labels, value in samples:
        shown = int(value) if value == int(value) else value
        yield f"{PREFIX}_{name}{_label(labels)} {shown}"


def _label(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = [f'{key}="{_escape(value)}"' for key, value in labels.items()]
    return "{" + ",".join(escaped) + "}"


def _escape(value: str) -> str:
    return redact(value).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

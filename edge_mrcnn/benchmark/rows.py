"""Results of a benchmark as plain records; `tables` formats them."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_mrcnn.benchmark.session import CandidateTrial, Turn
from edge_mrcnn.measure.files import file_sha256, file_size, unique_names
from edge_mrcnn.measure.latency import Percentiles, summarize_stages
from edge_mrcnn.measure.surroundings import describe_device, describe_packages
from runtimes.board import Board, Condition
from runtimes.model_file import ModelFile

NET, TOTAL = "inference", "total"


@dataclass(frozen=True)
class Ratio:
    """Speed-up over the first candidate, compared round by round."""

    median: float
    low: float
    """In the worst round."""
    high: float
    """In the best round."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Results of one candidate."""

    name: str
    """File name, with its folder where two files share the name."""
    path: str
    target: str
    """Format: "onnx", "openvino" or "tflite"."""
    precision: str
    """"fp32" or "int8" from the card, with the precision of float layers if it is not f32: "fp32/bf16"."""
    threads: int
    """0 on other devices than the CPU."""
    place: str
    """Where it ran: "1 thread", "4 threads", "gpu"."""
    cpus: tuple[int, ...]
    """Processors that it was pinned to; all if empty."""
    options: dict[str, Any]
    """Options of the runtime besides threads."""
    runs_as: dict[str, str]
    """What the runtime reports."""
    input_size_hw: tuple[int, int] | None
    """Height and width of the network's input, in pixels; None for another tool's model."""
    is_peer: bool
    """Whether it is another tool's model, of which only the network was timed."""
    size_bytes: int
    """Size of all files of the model, in bytes."""
    sha256: str
    load_s: float
    """Seconds to import the SDK and open the model, one image included; with files in the system's cache."""
    first_result_s: float
    """Seconds from starting Python to the first result."""
    peak_memory_bytes: int
    """Peak memory of the process, in bytes."""
    pictures: int
    """Number of times in the percentiles."""
    objects: float
    """Mean number of objects per image."""
    latency: dict[str, Percentiles]
    """Stage -> milliseconds; "total" is the wall time of all of them, and absent for another tool's model."""
    fps: float
    """Images per second; of the network alone for another tool's model."""
    ratio: Ratio | None
    """End-to-end speed-up over the first row; None for another tool's model."""
    net_ratio: Ratio
    """Speed-up of the network over that of the first row."""
    dropped: float | None
    """Share of a camera's frames that would be dropped, in [0, 1]; None without a frame rate."""
    throttling: tuple[str, ...]
    """Causes of throttling during the run; the row is invalid unless empty."""


@dataclass(frozen=True)
class Failure:
    """A candidate that could not be timed."""

    name: str
    place: str
    reason: str


@dataclass(frozen=True)
class SustainedWindow:
    """A window of a sustained run."""

    end_s: float
    """Seconds since the start."""
    pictures: int
    fps: float
    temperature_c: float | None
    frequency_mhz: float | None
    throttling: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sustained:
    """One candidate under continuous load."""

    name: str
    place: str
    windows: tuple[SustainedWindow, ...]

    @property
    def span_s(self) -> float:
        """Seconds that are compared at both ends: a minute, or half of a shorter run."""
        return min(60.0, self.windows[-1].end_s / 2)

    @property
    def first_fps(self) -> float:
        """Images per second at the start."""
        limit = self.span_s * 1.01
        first = [window for window in self.windows if window.end_s <= limit]
        return _mean_fps(first or self.windows[:1])

    @property
    def last_fps(self) -> float:
        """Images per second at the end."""
        limit = self.windows[-1].end_s - self.span_s * 1.01 + self.windows[0].end_s
        last = [window for window in self.windows if window.end_s > limit]
        return _mean_fps(last or self.windows[-1:])


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """All results."""

    created: str
    """ISO 8601 with time zone."""
    board: Board
    device: dict[str, str]
    packages: dict[str, str]
    conditions: tuple[Condition, Condition]
    """Condition of the board before and after."""
    settings: dict[str, Any]
    """How it was timed: source, pictures, rounds, warm_up, draw, conf, pin, camera_fps."""
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    others_share: float | None
    """Share of the CPU that other processes used during the benchmark, in [0, 1]."""
    sustained: Sustained | None = None

    @property
    def own(self) -> tuple[Row, ...]:
        """Our files."""
        return tuple(row for row in self.rows if not row.is_peer)

    @property
    def peers(self) -> tuple[Row, ...]:
        """Models of other tools."""
        return tuple(row for row in self.rows if row.is_peer)

    @property
    def invalid(self) -> tuple[Row, ...]:
        """Rows that were timed during throttling."""
        return tuple(row for row in self.rows if row.throttling)

    @property
    def fastest(self) -> Row:
        """The row of ours with the shortest median."""
        return min(self.own, key=lambda row: row.latency[TOTAL].p50)

    def to_json(self) -> str:
        """All of it as one JSON object."""
        record = {**asdict(self), "is_valid": not self.invalid}
        return json.dumps(record, indent=1, allow_nan=False) + "\n"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Settings that are the same for all rows."""

    board: Board
    conditions: tuple[Condition, Condition]
    settings: dict[str, Any] = field(default_factory=dict)
    sustained: Sustained | None = None


def summarize(
    trials: Sequence[CandidateTrial], surroundings: Surroundings, *, camera_fps: float | None = None
) -> Benchmark:
    """Records from raw times; ratios refer to the first candidate that could be timed."""
    names = _names(trials)
    timed = [trial for trial in trials if trial.turns and not trial.error]
    rows, failures = [], []
    for trial in timed:
        rows.append(_make_row(trial, names[trial.candidate.path], timed[0], camera_fps))
    for trial in trials:
        if trial.error:
            failures.append(Failure(names[trial.candidate.path], trial.candidate.place, trial.error))
    return Benchmark(
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        board=surroundings.board,
        device=describe_device(),
        packages=describe_packages(),
        conditions=surroundings.conditions,
        settings=surroundings.settings,
        rows=tuple(rows),
        failures=tuple(failures),
        others_share=_others_share(timed),
        sustained=surroundings.sustained,
    )


def _others_share(timed: Sequence[CandidateTrial]) -> float | None:
    """Share of the CPU that other processes used, as a mean over all turns; None if unknown."""
    shares = []
    for trial in timed:
        for turn in trial.turns:
            if turn.others_share is not None:
                shares.append(turn.others_share)
    return statistics.fmean(shares) if shares else None


def make_window(turn: Turn, end_s: float) -> SustainedWindow:
    """A window from the times measured in it."""
    times = _times([turn], TOTAL)
    condition = turn.condition
    fps = 1e3 / statistics.fmean(times)
    return SustainedWindow(end_s, len(times), fps, condition.temperature_c, condition.frequency_mhz, turn.throttling)


def compare_rounds(base: CandidateTrial, trial: CandidateTrial, stage: str) -> Ratio:
    """Speed-up of the median of each round over the base's in the same round."""
    ratios = []
    for base_turn, turn in zip(base.turns, trial.turns, strict=False):
        base_ms = statistics.median(_times([base_turn], stage))
        took_ms = statistics.median(_times([turn], stage))
        ratios.append(base_ms / took_ms)
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def dropped_share(times_ms: Sequence[float], fps: float) -> float:
    """Share of a camera's frames that a loop with these times drops if it always takes the newest frame.

    Args:
        times_ms: Time of each frame, in order, in milliseconds.
        fps: Frames per second of the camera.
    """
    period = 1e3 / fps
    now, taken = 0.0, 0
    for count, duration in enumerate(times_ms):
        newest = int(now / period + 1e-9)
        taken = newest if count == 0 or newest > taken else taken + 1
        now = max(now, taken * period) + duration
    return 1 - len(times_ms) / (taken + 1)


def _names(trials: Sequence[CandidateTrial]) -> dict[Path, str]:
    """A display name for each file, with folders if two files have the same name."""
    paths = list(dict.fromkeys(trial.candidate.path for trial in trials))
    return dict(zip(paths, unique_names(paths), strict=True))


def _make_row(trial: CandidateTrial, name: str, base: CandidateTrial, camera_fps: float | None) -> Row:
    candidate, is_peer = trial.candidate, trial.candidate.is_peer
    samples = [sample for turn in trial.turns for sample in turn.samples]
    times = _times(trial.turns, NET if is_peer else TOTAL)
    return Row(
        name=name,
        path=str(candidate.path),
        target=ModelFile(candidate.path).format.name,
        precision=_describe_precision(trial),
        threads=candidate.threads,
        place=candidate.place,
        cpus=trial.cpus,
        options=candidate.options,
        runs_as=trial.runs_as,
        input_size_hw=None if is_peer else tuple(trial.card["input_size_hw"]),
        is_peer=is_peer,
        size_bytes=file_size(candidate.path),
        sha256=file_sha256(candidate.path),
        load_s=statistics.median(trial.load_s),
        first_result_s=statistics.median(trial.first_result_s),
        peak_memory_bytes=trial.peak_bytes,
        pictures=len(samples),
        objects=statistics.fmean(turn.objects for turn in trial.turns),
        latency=summarize_stages(samples),
        fps=1e3 / statistics.fmean(times),
        ratio=None if is_peer or base.candidate.is_peer else compare_rounds(base, trial, TOTAL),
        net_ratio=compare_rounds(base, trial, NET),
        dropped=dropped_share(times, camera_fps) if camera_fps and not is_peer else None,
        throttling=tuple(dict.fromkeys(reason for turn in trial.turns for reason in turn.throttling)),
    )


def _describe_precision(trial: CandidateTrial) -> str:
    layers = trial.runs_as.get("float layers", "f32")
    stated = str(trial.card.get("precision", "peer"))
    return stated if layers == "f32" else f"{stated}/{layers}"


def _times(turns: Sequence[Turn], stage: str) -> list[float]:
    return [sample[stage] for turn in turns for sample in turn.samples]


def _mean_fps(windows: Sequence[SustainedWindow]) -> float:
    """Images divided by the time that they took."""
    pictures = sum(window.pictures for window in windows)
    seconds = sum(window.pictures / window.fps for window in windows)
    return pictures / seconds

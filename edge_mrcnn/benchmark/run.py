"""A whole benchmark: images, interleaved candidates, the sustained run, records."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import runtimes
from edge_mrcnn.benchmark.candidates import Candidate, check_threads, default_threads, list_candidates
from edge_mrcnn.benchmark.child import ChildError, Work
from edge_mrcnn.benchmark.frames import save_frames
from edge_mrcnn.benchmark.rows import TOTAL, Benchmark, Surroundings, Sustained, make_window, summarize
from edge_mrcnn.benchmark.session import BenchmarkSession, CandidateTrial, Plan
from runtimes.board import read_board, read_condition, read_cores
from runtimes.errors import EdgeError, ModelFileError
from runtimes.progress import Progress, silent

"""Called with a description, the number of finished steps and the total number."""
MIN_WINDOW_S = 2.0
"""Minimum length of a window of a sustained run, in seconds."""
WINDOWS = 60
"""Maximum number of windows of a sustained run; each is one character wide on the screen."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Settings of a benchmark."""

    plan: Plan = field(default_factory=Plan)
    threads: tuple[int, ...] = ()
    """Numbers of CPU threads to try; 1, 2, 4 and so on up to the number of cores if empty."""
    source: str | Sequence[Path] | None = None
    """Camera, URL, video, image, folder or glob, or image files; generated images if None."""
    pictures: int = 20
    """Maximum number of images; all of them are used in each round."""
    draw: bool = True
    """Whether drawing is part of the total time."""
    conf: float = 0.5
    """Score threshold, in [0, 1]."""
    camera_fps: float | None = None
    """Frame rate of a camera, to compute its share of dropped frames."""
    sustained_minutes: float = 0.0
    """Minutes of continuous load of the fastest candidate afterwards."""
    openvino_precisions: tuple[str, ...] = ("f32",)
    """Precisions of OpenVINO's float layers: "f32", or "auto" for the device's choice."""
    devices: tuple[str, ...] = ("cpu",)
    """Devices to use if a runtime supports them: "cpu", "gpu", "npu", "cuda", "tensorrt"."""


def run_benchmark(
    models: Sequence[Path], config: BenchmarkConfig, *, peers: Sequence[Path] = (), progress: Progress = silent
) -> Benchmark:
    """Time models interleaved, each in a process of its own.

    Args:
        models: Our files; ratios refer to the first.
        config: Settings of the benchmark.
        peers: Models of other tools; only their network is timed.
        progress: Called after each turn and window.

    Raises:
        SourceError, DataError: If the source gives no pictures.
        UsageError: If there are more threads than processors.
        ModelFileError: If none of the models can be timed.
    """
    before = read_condition()
    with tempfile.TemporaryDirectory(prefix="edge-mrcnn-") as folder:
        frames = save_frames(config.source, config.pictures, Path(folder))
        with open_session(models, config, tuple(frames), peers=peers) as session:
            trials = session.run(progress)
            check_any(trials)
            sustained = _sustain(session, config, progress) if config.sustained_minutes else None
    surroundings = Surroundings(
        board=read_board(),
        conditions=(before, read_condition()),
        settings=_settings(config, len(frames), trials),
        sustained=sustained,
    )
    return summarize(trials, surroundings, camera_fps=config.camera_fps)


def open_session(
    models: Sequence[Path], config: BenchmarkConfig, frames: tuple[Path, ...], *, peers: Sequence[Path] = ()
) -> BenchmarkSession:
    """The candidates of these models, ready to be timed.

    Raises:
        UsageError: If there are more threads than processors.
    """
    cores = read_cores()
    threads = config.threads or default_threads(len(cores))
    check_threads(threads, cores)
    candidates = list_candidates(
        models, threads, peers=peers, openvino_precisions=config.openvino_precisions, devices=config.devices
    )
    size_hw = _first_size(candidates) if peers else (640, 640)
    work = Work(frames=frames, draw=config.draw, conf=config.conf, peer_size_hw=size_hw)
    return BenchmarkSession(candidates, work, config.plan, cores)


def check_any(trials: Sequence[CandidateTrial]) -> None:
    """Raise ModelFileError with the reasons if none of our models could be timed."""
    own = [trial for trial in trials if not trial.candidate.is_peer]
    if all(trial.error for trial in own):
        reasons = "; ".join(dict.fromkeys(trial.error for trial in own))
        raise ModelFileError(f"no model could be timed: {reasons}")


def _sustain(session: BenchmarkSession, config: BenchmarkConfig, progress: Progress) -> Sustained | None:
    """The fastest candidate alone; None if it fails, and its trial then has the reason."""
    index = fastest_trial(session.trials)
    candidate, seconds = session.trials[index].candidate, 60 * config.sustained_minutes
    windows, elapsed_s = [], 0.0
    try:
        for turn in session.sustain(index, config.sustained_minutes, max(MIN_WINDOW_S, seconds / WINDOWS)):
            elapsed_s += turn.wall_s
            windows.append(make_window(turn, elapsed_s))
            progress("sustained, seconds", min(round(elapsed_s), round(seconds)), round(seconds))
    except ChildError as error:
        session.trials[index].error = str(error)
        return None
    return Sustained(name=candidate.path.name, place=candidate.place, windows=tuple(windows))


def fastest_trial(trials: Sequence[CandidateTrial]) -> int:
    """Index of our candidate with the shortest median total."""

    def median_total(index: int) -> float:
        return statistics.median(sample[TOTAL] for turn in trials[index].turns for sample in turn.samples)

    own = [i for i, trial in enumerate(trials) if trial.turns and not trial.error and not trial.candidate.is_peer]
    return min(own, key=median_total)


def _first_size(candidates: Sequence[Candidate]) -> tuple[int, int]:
    """Input size of our first model with a readable card."""
    for candidate in candidates:
        try:
            return runtimes.read_card(candidate.path).input_size_hw
        except EdgeError:
            continue
    return (640, 640)


def _settings(config: BenchmarkConfig, pictures: int, trials: Sequence[CandidateTrial]) -> dict[str, object]:
    return {
        "source": config.source if config.source is None or isinstance(config.source, str) else "images",
        "pictures": pictures,
        "rounds": max(len(trial.turns) for trial in trials),
        "warm_up": config.plan.warm_up,
        "pin": config.plan.pin,
        "draw": config.draw,
        "conf": config.conf,
        "camera_fps": config.camera_fps,
    }

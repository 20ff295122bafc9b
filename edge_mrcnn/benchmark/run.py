"""A whole benchmark: pictures, candidates in turn, the sustained run, records."""

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

"""Called with what is being done, the number of steps done and the number of all."""
MIN_WINDOW_S = 2.0
"""Shortest stretch of a sustained run that has a figure of its own."""
WINDOWS = 60
"""Stretches that a sustained run is cut into at most; each is a character wide on the screen."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What is timed, and how thoroughly."""

    plan: Plan = field(default_factory=Plan)
    threads: tuple[int, ...] = ()
    """CPU threads to try; 1, 2, 4 and so on up to the number of cores if empty."""
    source: str | Sequence[Path] | None = None
    """Camera, URL, video, image, folder or glob, or image files; pictures are made up if None."""
    pictures: int = 20
    """Pictures of the source at most; all of them are shown in each round."""
    draw: bool = True
    """Whether the drawing is a part of the total."""
    conf: float = 0.5
    """Lowest score that counts, in [0, 1]."""
    camera_fps: float | None = None
    """Rate of a camera, in frames per second, to say which share of its frames is dropped."""
    sustained_minutes: float = 0.0
    """How long the fastest candidate goes on without a pause afterwards."""
    openvino_precisions: tuple[str, ...] = ("f32",)
    """What OpenVINO's float layers run in: "f32", or "auto" for the device's choice."""
    devices: tuple[str, ...] = ("cpu",)
    """Where models run, as far as their runtimes can: "cpu", "gpu", "npu", "cuda", "tensorrt"."""


def run_benchmark(
    models: Sequence[Path], config: BenchmarkConfig, *, peers: Sequence[Path] = (), progress: Progress = silent
) -> Benchmark:
    """Time models side by side, each in a process of its own.

    Args:
        models: Our files; ratios are counted from the first.
        config: What and how thoroughly.
        peers: Files of others; only their net is timed.
        progress: Told after each turn and window.

    Raises:
        SourceError, DataError: If the source gives no pictures.
        UsageError: If there are more threads than processors.
        ModelFileError: If not one of the models can be timed.
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
    """The candidates of these models, ready to take turns.

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
    """Raise ModelFileError, saying why, if not one of our models could be timed."""
    own = [trial for trial in trials if not trial.candidate.is_peer]
    if all(trial.error for trial in own):
        reasons = "; ".join(dict.fromkeys(trial.error for trial in own))
        raise ModelFileError(f"not one model could be timed: {reasons}")


def _sustain(session: BenchmarkSession, config: BenchmarkConfig, progress: Progress) -> Sustained | None:
    """The fastest candidate alone; None if it fails, which its trial then says."""
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
    """Input size of the first of our models whose card can be read."""
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

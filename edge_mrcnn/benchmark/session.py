"""Interleaved timing: the candidates take turns in each round, so that other load on the machine affects all of
them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from edge_mrcnn.benchmark.candidates import Candidate
from edge_mrcnn.benchmark.child import Child, ChildError, Work
from edge_mrcnn.measure.latency import rotated
from runtimes.board import Condition, Core, pick_cpus, read_condition, throttling_between
from runtimes.board.files import ROOT, read_text
from runtimes.progress import Progress, silent

TIGHT = 0.25
"""Share of available memory below which a candidate is closed after its turn instead of waiting for the next."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long the candidates are timed, and how."""

    rounds: int = 5
    """Number of times that every candidate processes every image."""
    seconds: float | None = None
    """Run rounds until this many seconds have passed in total, instead of `rounds`; at least two rounds."""
    warm_up: int = 2
    """Number of untimed warm-up images at the start of each turn."""
    pin: bool = True
    """Whether a candidate with N threads is pinned to N physical cores, the fastest ones."""

    def goes_on(self, rounds_done: int, elapsed_s: float) -> bool:
        """Whether another round follows."""
        if self.seconds is None:
            return rounds_done < self.rounds
        return rounds_done < 2 or elapsed_s < self.seconds


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Results of one candidate in one round."""

    samples: list[dict[str, float]]
    """Milliseconds by stage, one record per image."""
    objects: float
    """Mean number of objects per image."""
    wall_s: float
    """Duration of the turn in seconds, without warm-up."""
    others_share: float | None
    """Share of the machine's CPU that other processes used during the turn, in [0, 1]; None if unknown."""
    throttling: tuple[str, ...]
    """Causes of throttling."""
    condition: Condition
    """Condition of the board at the end."""


@dataclass
class CandidateTrial:
    """All results of one candidate."""

    candidate: Candidate
    cpus: tuple[int, ...] = ()
    """Processors that it was pinned to; all if empty."""
    card: dict[str, Any] = field(default_factory=dict)
    """Its model card; empty for another tool's model."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """What the runtime reports."""
    load_s: list[float] = field(default_factory=list)
    """Seconds to import the SDK and open the model, for each time it was opened."""
    first_result_s: list[float] = field(default_factory=list)
    """Seconds from starting Python to the first result, in the same way."""
    peak_bytes: int = 0
    """Peak memory of its process."""
    turns: list[Turn] = field(default_factory=list)
    error: str = ""
    """Why it cannot be timed."""


class Load(NamedTuple):
    """CPU time since the start of the machine, in seconds over all processors."""

    busy_s: float
    all_s: float


class BenchmarkSession:
    """The processes of a benchmark. A context manager that ends them."""

    def __init__(self, candidates: Sequence[Candidate], work: Work, plan: Plan, cores: Sequence[Core]) -> None:
        self._work = work
        self._plan = plan
        self._children: dict[int, Child] = {}
        usable = sum(len(core.cpus) for core in cores)
        self.trials = [
            CandidateTrial(c, pick_cpus(cores, c.threads) if plan.pin and 0 < c.threads < usable else ())
            for c in candidates
        ]

    def __enter__(self) -> BenchmarkSession:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children.values():
            child.close()

    def run(self, progress: Progress = silent) -> list[CandidateTrial]:
        """Run all rounds.

        Args:
            progress: Called with the candidate, its turn, and the number of turns in this round.
        """
        start, rounds = monotonic(), 0
        while self._plan.goes_on(rounds, monotonic() - start) and not all(trial.error for trial in self.trials):
            for position, index in enumerate(rotated(len(self.trials), by=rounds), start=1):
                if not self.trials[index].error:
                    self._play(index)
                progress(self._title(rounds), position, len(self.trials))
            rounds += 1
        return self.trials

    def sustain(self, index: int, minutes: float, window_s: float) -> Iterator[Turn]:
        """Time one candidate alone without a pause, one turn per window of this many seconds.

        Raises:
            ChildError: If it fails.
        """
        start = monotonic()
        while monotonic() - start < 60 * minutes:
            yield self._take_turn(index, warm_up=0, seconds=window_s)

    def _title(self, rounds: int) -> str:
        total = f" of {self._plan.rounds}" if self._plan.seconds is None else ""
        return f"round {rounds + 1}{total}"

    def _play(self, index: int) -> None:
        """Time one turn; a failure is recorded and ends the candidate, not the benchmark."""
        trial = self.trials[index]
        try:
            trial.turns.append(self._take_turn(index, warm_up=self._plan.warm_up))
        except ChildError as error:
            trial.error = str(error)
            self._close(index)
        if is_memory_tight():
            self._close(index)

    def _take_turn(self, index: int, *, warm_up: int, seconds: float = 0.0) -> Turn:
        child = self._open(index)
        before, load = read_condition(), read_load()
        child.begin_turn(warm_up, seconds)
        reply = child.end_turn()
        after, later = read_condition(), read_load()
        trial = self.trials[index]
        trial.peak_bytes = max(trial.peak_bytes, reply["peak_bytes"])
        return Turn(
            samples=reply["samples"],
            objects=reply["objects"],
            wall_s=reply["wall_s"],
            others_share=_share_of_others(load, later, reply["cpu_s"]),
            throttling=throttling_between(before, after),
            condition=after,
        )

    def _open(self, index: int) -> Child:
        if index not in self._children:
            trial = self.trials[index]
            child = self._children[index] = Child(trial.candidate, self._work, trial.cpus)
            trial.card, trial.runs_as = child.ready["card"], child.ready["runs_as"]
            trial.load_s.append(child.ready["load_s"])
            trial.first_result_s.append(child.first_result_s)
        return self._children[index]

    def _close(self, index: int) -> None:
        if child := self._children.pop(index, None):
            child.close()


def read_load(root: Path = ROOT) -> Load | None:
    """CPU time used so far; None if the system does not report it."""
    fields = read_text(root / "proc/stat").partition("\n")[0].split()[1:9]
    if len(fields) < 8:
        return None
    user, nice, system, idle, wait, irq, soft_irq, steal = (int(f) / os.sysconf("SC_CLK_TCK") for f in fields)
    busy = user + nice + system + irq + soft_irq + steal
    return Load(busy, busy + idle + wait)


def is_memory_tight(root: Path = ROOT) -> bool:
    """Whether little memory is available."""
    lines = (line.split() for line in read_text(root / "proc/meminfo").splitlines())
    sizes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
    total, available = sizes.get("MemTotal:", 0), sizes.get("MemAvailable:")
    return available is not None and available < TIGHT * total


def _share_of_others(before: Load | None, after: Load | None, own_s: float) -> float | None:
    if before is None or after is None or after.all_s <= before.all_s:
        return None
    return max(0.0, after.busy_s - before.busy_s - own_s) / (after.all_s - before.all_s)

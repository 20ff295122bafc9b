"""Candidates take turns, round after round: whatever the machine does meanwhile, it does to all of them."""

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
"""Below this share of memory available, a candidate is closed after its turn instead of waiting for the next."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how carefully candidates are timed."""

    rounds: int = 5
    """Times that every candidate sees every picture."""
    seconds: float | None = None
    """Go on with rounds until so many seconds have passed in all, instead of `rounds`; at least two rounds."""
    warm_up: int = 2
    """Pictures at the start of each turn that are not timed."""
    pin: bool = True
    """Whether a candidate of N threads is kept on N physical cores, the fastest ones."""

    def goes_on(self, rounds_done: int, elapsed_s: float) -> bool:
        """Whether another round follows."""
        if self.seconds is None:
            return rounds_done < self.rounds
        return rounds_done < 2 or elapsed_s < self.seconds


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one candidate did in one round."""

    samples: list[dict[str, float]]
    """Milliseconds by stage, a record for each picture."""
    objects: float
    """Objects found, on average over the pictures."""
    wall_s: float
    """What the turn took, in seconds, without its warm-up."""
    others_share: float | None
    """Share of the machine's processors that other processes used meanwhile, in [0, 1]; None where not known."""
    throttling: tuple[str, ...]
    """What held the processor back."""
    condition: Condition
    """Of the board at the end."""


@dataclass
class CandidateTrial:
    """All that is known of one candidate."""

    candidate: Candidate
    cpus: tuple[int, ...] = ()
    """Processors that it was kept on; all if empty."""
    card: dict[str, Any] = field(default_factory=dict)
    """Its model card; empty for a peer."""
    runs_as: dict[str, str] = field(default_factory=dict)
    """What the runtime says of itself."""
    load_s: list[float] = field(default_factory=list)
    """Seconds to import the SDK and open the model, each time it was opened."""
    first_result_s: list[float] = field(default_factory=list)
    """Seconds from starting Python to the first result, likewise."""
    peak_bytes: int = 0
    """The most memory that its process held."""
    turns: list[Turn] = field(default_factory=list)
    error: str = ""
    """Why it cannot be timed."""


class Load(NamedTuple):
    """Processor time since the start of the machine, in seconds over all processors."""

    busy_s: float
    all_s: float


class BenchmarkSession:
    """The children of a benchmark. A context manager that ends them."""

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
        """Play all rounds.

        Args:
            progress: Told what is being timed, in which turn, of how many in this round.
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
        """One candidate alone without a pause, a turn for each window of so many seconds.

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
        """One turn; a failure is noted and ends the candidate, not the benchmark."""
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
    """How much the processors did so far; None where the system does not tell."""
    fields = read_text(root / "proc/stat").partition("\n")[0].split()[1:9]
    if len(fields) < 8:
        return None
    user, nice, system, idle, wait, irq, soft_irq, steal = (int(f) / os.sysconf("SC_CLK_TCK") for f in fields)
    busy = user + nice + system + irq + soft_irq + steal
    return Load(busy, busy + idle + wait)


def is_memory_tight(root: Path = ROOT) -> bool:
    """Whether little memory is left."""
    lines = (line.split() for line in read_text(root / "proc/meminfo").splitlines())
    sizes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
    total, available = sizes.get("MemTotal:", 0), sizes.get("MemAvailable:")
    return available is not None and available < TIGHT * total


def _share_of_others(before: Load | None, after: Load | None, own_s: float) -> float | None:
    if before is None or after is None or after.all_s <= before.all_s:
        return None
    return max(0.0, after.busy_s - before.busy_s - own_s) / (after.all_s - before.all_s)

"""Physical cores, fastest first, so that N threads run on N of them: hyperthreads share the arithmetic units of a
core."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from runtimes.board.files import ROOT, parse_cpu_list, read_number, read_text


class Core(NamedTuple):
    """One physical core."""

    cpus: tuple[int, ...]
    """Numbers of its hardware threads, as the scheduler counts them."""
    capacity: int
    """Relative speed: the kernel's capacity, or the highest frequency in kHz; 0 if neither is known."""


def read_cores(root: Path = ROOT, allowed: Iterable[int] | None = None) -> tuple[Core, ...]:
    """The usable cores, fastest first.

    Args:
        root: Root of `/sys`.
        allowed: CPU numbers that this process may use; its own affinity if None.
    """
    folder = root / "sys/devices/system/cpu"
    usable = set(usable_cpus() if allowed is None else allowed)
    cores: dict[tuple[int, ...], int] = {}
    for cpu in sorted(usable):
        siblings = parse_cpu_list(read_text(folder / f"cpu{cpu}/topology/thread_siblings_list")) or [cpu]
        cores[tuple(c for c in siblings if c in usable) or (cpu,)] = _capacity(folder / f"cpu{cpu}")
    return tuple(sorted((Core(*item) for item in cores.items()), key=lambda core: (-core.capacity, core.cpus)))


def pick_cpus(cores: Sequence[Core], threads: int) -> tuple[int, ...]:
    """One hardware thread of each of the fastest cores; all hardware threads if there are too few cores."""
    if threads > len(cores):
        return tuple(sorted(cpu for core in cores for cpu in core.cpus))
    return tuple(sorted(core.cpus[0] for core in cores[:threads]))


def choose_threads(wanted: int | None) -> int:
    """The given number of threads, or else one per physical core that this process may use."""
    return wanted or len(read_cores())


def usable_cpus() -> list[int]:
    """CPU numbers that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _capacity(folder: Path) -> int:
    capacity = read_number(folder / "cpu_capacity")
    return capacity if capacity is not None else read_number(folder / "cpufreq/cpuinfo_max_freq") or 0

"""One candidate in a process of its own, so that its memory, threads and crashes affect no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mrcnn.benchmark.candidates import Candidate
from runtimes.errors import EdgeError, one_line

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ROOT = Path(__file__).parents[2]


class ChildError(EdgeError):
    """A candidate that cannot be timed."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Work that is the same for all candidates."""

    frames: tuple[Path, ...]
    """Images, (H, W, 3) uint8 RGB, as `.npy` files."""
    draw: bool = True
    """Whether drawing the detections is part of the total time."""
    conf: float = 0.5
    """Score threshold."""
    peer_size_hw: tuple[int, int] = (640, 640)
    """Height and width for other tools' models with a free input size, in pixels."""


class Child:
    """A running worker."""

    def __init__(self, candidate: Candidate, work: Work, cpus: Sequence[int]) -> None:
        """Start it and wait until its first image is done.

        Args:
            candidate: What it runs.
            work: Work of all candidates.
            cpus: Processors that it may use; all if empty.

        Raises:
            ChildError: If the model cannot be opened or run.
        """
        limits = dict.fromkeys(THREAD_VARIABLES, str(candidate.threads)) if candidate.threads else {}
        environment = {**os.environ, **limits}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
        # Not a pipe, because a full pipe would block the process.
        self._remarks = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  closed in `close`
        start = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edge_mrcnn.benchmark.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._remarks, text=True, env=environment,
        )  # fmt: skip
        try:
            self.ready = self._ask(_to_job(candidate, work, cpus))
        except BaseException:
            self.close()
            raise
        self.first_result_s = time.perf_counter() - start
        """Seconds from start to the first result: Python, imports, opening the model, one image."""

    def begin_turn(self, warm_up: int, seconds: float = 0.0) -> None:
        """Make it time every frame once, or frames for a number of seconds."""
        self._send({"warm_up": warm_up, "seconds": seconds})

    def end_turn(self) -> dict[str, Any]:
        """The result of the turn, when it is done.

        Raises:
            ChildError: If the process failed meanwhile.
        """
        return self._receive()

    def close(self) -> None:
        """Stop it; a second call does nothing."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._remarks.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._send(request)
        return self._receive()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it died; the missing reply is handled by the caller
            return

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(self._explain_death())
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise ChildError(reply["error"])
        return reply

    def _explain_death(self) -> str:
        code = self._process.wait()
        if hasattr(signal, "SIGKILL") and code == -signal.SIGKILL:
            return "its process was killed, probably because the memory is full"
        if code < 0:
            return f"its process crashed: {signal.Signals(-code).name}"
        self._remarks.seek(0)
        last = self._remarks.read().strip().splitlines()[-1:] or ["without a message"]
        return f"its process ended with code {code}: {one_line(Exception(last[0]))}"


def _to_job(candidate: Candidate, work: Work, cpus: Sequence[int]) -> dict[str, Any]:
    return {
        "path": str(candidate.path),
        "threads": candidate.threads,
        "options": candidate.options,
        "is_peer": candidate.is_peer,
        "cpus": list(cpus),
        "frames": [str(frame) for frame in work.frames],
        "draw": work.draw,
        "conf": work.conf,
        "size_hw": work.peer_size_hw,
    }

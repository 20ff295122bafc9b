"""Damages files in many ways and opens each, in a process with little memory; prints what became of them as JSON.

python mutants.py KIND FILE COUNT FOLDER

KIND is "model", "image" or "video". FOLDER is for the mutants. Run by test_hostile_files.py.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import runtimes
from runtimes.sources import open_source

MEMORY_BYTES = 2 * 1024**3
Bytes = np.ndarray


def cut(data: Bytes, rng: np.random.Generator) -> Bytes:
    """The beginning of a file."""
    return data[: rng.integers(0, len(data))]


def flip(data: Bytes, rng: np.random.Generator) -> Bytes:
    """One to forty flipped bits."""
    count = rng.integers(1, 41)
    data[rng.integers(0, len(data), count)] ^= (1 << rng.integers(0, 8, count)).astype(np.uint8)
    return data


def flip_head(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Flipped bits among the first bytes, which hold sizes and types."""
    return np.concatenate([flip(data[:96], rng), data[96:]])


def zero(data: Bytes, rng: np.random.Generator) -> Bytes:
    """A stretch of zeros, as a lost sector leaves it."""
    start = rng.integers(0, len(data))
    data[start : start + rng.integers(1, 1 + len(data) // 4)] = 0
    return data


def splice(data: Bytes, rng: np.random.Generator) -> Bytes:
    """The head of a file and the tail from another position."""
    head, tail = sorted(rng.integers(1, len(data), 2))
    return np.concatenate([data[:head], data[tail:]])


def repeat(data: Bytes, rng: np.random.Generator) -> Bytes:
    """A repeated stretch."""
    start, end = sorted(rng.integers(0, len(data), 2))
    return np.concatenate([data[:end], data[start:]])


def damage_end(data: Bytes, rng: np.random.Generator) -> Bytes:
    """Damage to the last bytes, which hold cards and checksums."""
    return np.concatenate([data[:-400], flip(data[-400:], rng)])


MUTATIONS = (cut, flip, flip_head, zero, splice, repeat, damage_end)


def use_model(path: Path) -> None:
    """Open and run; the file itself, or the .xml to which a .bin belongs."""
    with runtimes.load(path.with_suffix(".xml") if path.suffix == ".bin" else path, threads=1) as model:
        model.infer(np.zeros((8, 8, 3), np.uint8))


def use_image(path: Path) -> None:
    """Decode."""
    runtimes.read_image(path)


def use_video(path: Path) -> None:
    """Read twenty frames at most."""
    for _ in zip(open_source(path), range(20), strict=False):
        pass


USES: dict[str, Callable[[Path], None]] = {"model": use_model, "image": use_image, "video": use_video}


def main(kind: str, file: str, count: str, folder: str) -> None:
    """Use `count` mutants of a file and print outcome -> number, and the longest time in seconds."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    original = np.fromfile(file, np.uint8)
    path = Path(folder) / Path(file).name
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for seed in range(int(count)):
        mutate = MUTATIONS[seed % len(MUTATIONS)]
        mutant = mutate(original.copy(), np.random.default_rng(seed))
        path.write_bytes(mutant.tobytes())
        start = time.monotonic()
        outcomes["unchanged" if np.array_equal(mutant, original) else use(path, USES[kind])] += 1
        longest = max(longest, time.monotonic() - start)
    print(json.dumps({"outcomes": outcomes, "longest_s": round(longest, 2)}))


def use(path: Path, how: Callable[[Path], None]) -> str:
    """ "accepted", or the name of our error."""
    try:
        how(path)
    except runtimes.EdgeError as error:
        assert "\n" not in str(error), error
        return type(error).__name__
    return "accepted"


if __name__ == "__main__":
    main(*sys.argv[1:])

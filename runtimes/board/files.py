"""Reading of small files in `/proc` and `/sys`, which may be missing, unreadable or malformed."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def read_text(path: Path) -> str:
    """Content of a file, without surrounding white space and zero bytes; empty if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """The integer in a file; None if there is none."""
    try:
        return int(read_text(path))
    except ValueError:
        return None


def parse_cpu_list(text: str) -> list[int]:
    """CPU numbers of the kernel's list format, such as "0-3,8"."""
    cpus: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        cpus += range(int(first), int(last or first) + 1)
    return cpus

"""Small files of `/proc` and `/sys`, which may be absent, unreadable or odd."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/")


def read_text(path: Path) -> str:
    """What the file says, without the white space and zero bytes around it; empty where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t")
    except OSError:
        return ""


def read_number(path: Path) -> int | None:
    """The integer in the file; None where there is none."""
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

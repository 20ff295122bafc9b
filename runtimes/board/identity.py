"""Identity of a board: facts that do not change while it runs."""

from __future__ import annotations

import platform
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runtimes.board.cores import read_cores
from runtimes.board.files import ROOT, parse_cpu_list, read_text

FEATURES = {
    "asimd": "neon",
    "asimdhp": "fp16",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "bf16": "bf16",
    "sve": "sve",
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "avx512_bf16": "bf16",
    "avx512_fp16": "fp16",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
}
"""The kernel's name of an instruction set relevant to inference -> our name; both architectures."""

ARM_PARTS = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd0d"): "Cortex-A77",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd46"): "Cortex-A510",
    ("0x41", "0xd47"): "Cortex-A710",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4d"): "Cortex-A715",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd80"): "Cortex-A520",
    ("0x41", "0xd81"): "Cortex-A720",
    ("0x4e", "0x004"): "Carmel",
}
"""CPU implementer and part as printed by the kernel -> name. Source: Arm's MIDR_EL1 values, as in util-linux lscpu."""

NAMELESS = ("", "to be filled by o.e.m.", "default string", "system product name", "none")
"""Placeholders of manufacturers in the field for the product's name."""


@dataclass(frozen=True, kw_only=True)
class Board:
    """A machine."""

    model: str
    """Name of the product, such as "Raspberry Pi 5 Model B Rev 1.0", or of the processor if there is none."""
    processor: str
    """Name of the processor or of its cores, such as "Cortex-A76"."""
    architecture: str
    """As printed by `uname -m`: "aarch64", "x86_64", "armv7l"."""
    cores: int
    """Number of physical cores of the machine."""
    memory_bytes: int
    """Memory that the system manages, in bytes; 0 if unknown."""
    features: tuple[str, ...]
    """Instruction sets relevant to inference, sorted; values of `FEATURES`."""

    @property
    def is_arm(self) -> bool:
        """Whether it is an Arm processor, of 32 or 64 bits."""
        return self.architecture.startswith(("aarch64", "arm"))

    @property
    def identity(self) -> dict[str, object]:
        """Facts that two boards must share for a measurement on one to be valid on the other; memory is not among
        them."""
        return {
            "model": self.model,
            "processor": self.processor,
            "architecture": self.architecture,
            "cores": self.cores,
            "features": list(self.features),
        }

    def __str__(self) -> str:
        named = self.model if self.processor in self.model else f"{self.model} ({self.processor})"
        return f"{named}, {self.cores} core{'s' if self.cores > 1 else ''}"


def read_board(root: Path = ROOT, machine: str | None = None) -> Board:
    """Identity of this machine.

    Args:
        root: Root of `/proc` and `/sys`.
        machine: Output of `uname -m`; determined if None.
    """
    blocks = _cpu_blocks(read_text(root / "proc/cpuinfo"))
    online = parse_cpu_list(read_text(root / "sys/devices/system/cpu/online")) or range(max(1, len(blocks)))
    machine = machine or platform.machine()
    processor = _processor_name(blocks) or machine
    return Board(
        model=_product_name(root) or processor,
        processor=processor,
        architecture=machine,
        cores=len(read_cores(root, online)),
        memory_bytes=_memory_bytes(read_text(root / "proc/meminfo")),
        features=_features(blocks),
    )


def _cpu_blocks(cpuinfo: str) -> list[dict[str, str]]:
    """The key-value pairs of each processor in `/proc/cpuinfo`."""
    blocks = []
    for text in cpuinfo.split("\n\n"):
        pairs = (line.partition(":") for line in text.splitlines())
        block = {key.strip(): value.strip() for key, _, value in pairs}
        if "processor" in block:
            blocks.append(block)
    return blocks


def _processor_name(blocks: list[dict[str, str]]) -> str:
    """One name, or each kind with its number if cores differ: "4x Cortex-A76 + 4x Cortex-A55"."""
    counts = Counter(filter(None, map(_core_name, blocks)))
    if len(counts) == 1:
        return next(iter(counts))
    return " + ".join(f"{count}x {name}" for name, count in counts.most_common())


def _core_name(block: dict[str, str]) -> str:
    maker, part = block.get("CPU implementer", ""), block.get("CPU part", "")
    if maker:
        return ARM_PARTS.get((maker, part)) or block.get("model name") or f"Arm {maker}/{part}"
    return " ".join(block.get("model name", "").split())


def _product_name(root: Path) -> str:
    """From the device tree of boards, the kernel of a Raspberry Pi, or the firmware of a PC."""
    if name := read_text(root / "proc/device-tree/model"):
        return name
    named = re.search(r"^Model\s*: (.+)$", read_text(root / "proc/cpuinfo"), re.MULTILINE)
    if named:
        return named[1].strip()
    maker, name = (read_text(root / f"sys/class/dmi/id/{field}") for field in ("sys_vendor", "product_name"))
    return "" if name.lower() in NAMELESS else f"{maker} {name}".strip()


def _memory_bytes(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _features(blocks: list[dict[str, str]]) -> tuple[str, ...]:
    """Instruction sets of all processors, because a thread may run on any of them."""
    sets = [set((block.get("flags") or block.get("Features", "")).split()) for block in blocks]
    common = set.intersection(*sets) if sets else set()
    return tuple(sorted({FEATURES[flag] for flag in common & FEATURES.keys()}))

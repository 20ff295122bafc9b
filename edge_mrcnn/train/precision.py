"""The arithmetic precision of a training on a device."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
_PRECISIONS: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def lightning_precision(name: str, device: torch.device) -> Precision:
    """A precision of `TrainConfig` in Lightning's terms; "auto" is bf16 if the device supports it natively."""
    if name == "auto":
        name = "bf16" if multiplies_bf16(device) else "32"
    return _PRECISIONS[name]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether bf16 products are native, and so faster than FP32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool({"avx512_bf16", "amx_bf16"} & _cpu_flags())


def _cpu_flags() -> set[str]:
    """The CPU's features as named by Linux; none on other systems."""
    try:
        return set(re.findall(r"\w+", Path("/proc/cpuinfo").read_text()))
    except OSError:
        return set()

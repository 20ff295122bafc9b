"""Current condition of a board: temperature, clock, power, and causes of throttling.

Raspberry Pi: `vcgencmd get_throttled`, or the same number in /sys. Jetson: `tegrastats` and the counters of
soctherm_oc. All: thermal zones, cooling devices, cpufreq, and the thermal counters of x86.
"""

from __future__ import annotations

import re
import select
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runtimes.board.files import ROOT, read_number, read_text

THROTTLE_BITS = {0: "under-voltage", 1: "frequency capped", 2: "throttled", 3: "soft temperature limit"}
"""Bits of get_throttled for the present; 16 positions higher are those for any time since the start.

Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled

Source: https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
"""
CPU_ZONES = ("cpu-thermal", "cpu_thermal", "CPU-therm", "x86_pkg_temp", "soc-thermal", "soc_thermal")
"""Types of thermal zones with the processor's temperature; without one of them, the hottest zone is used."""
OVER_CURRENT = ("oc1", "oc2")
"""Jetson's under-voltage and average over-current counters. The third one counts instantaneous peaks, which are
normal."""
_TOOL_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Condition of a board at one moment; None and empty for unknown values."""

    temperature_c: float | None = None
    """Temperature of the processor, in degrees Celsius."""
    frequency_mhz: float | None = None
    """Current clock of the fastest core."""
    max_frequency_mhz: float | None = None
    """The highest clock of the hardware."""
    allowed_frequency_mhz: float | None = None
    """The highest clock that the system's settings, such as a power mode, allow."""
    governor: str = ""
    """CPU frequency governor: "performance", "ondemand", "schedutil"; several joined with "+"."""
    throttling: tuple[str, ...] = ()
    """Current causes of throttling."""
    throttled_before: tuple[str, ...] = ()
    """Causes of throttling at any time since the start; only a Raspberry Pi reports them."""
    throttle_events: int = 0
    """Number of throttling events since the start, if the kernel counts them."""
    power_w: float | None = None
    """Power of the board, in watts; Jetson only."""
    power_mode: str = ""
    """Jetson's power mode, such as "MAXN"."""


def read_condition(root: Path = ROOT) -> Condition:
    """The condition of this board.

    Args:
        root: Root of `/sys`. The tools `vcgencmd`, `tegrastats` and `nvpmodel` are searched on the PATH.
    """
    flags = _throttle_flags(root)
    stats = _tegrastats()
    frequencies = root / "sys/devices/system/cpu"
    return Condition(
        temperature_c=_zone_temperature(root) or _stated(stats, r"\bcpu@([\d.]+)C"),
        frequency_mhz=_highest_mhz(frequencies, "scaling_cur_freq"),
        max_frequency_mhz=_highest_mhz(frequencies, "cpuinfo_max_freq"),
        allowed_frequency_mhz=_highest_mhz(frequencies, "scaling_max_freq"),
        governor=_governors(frequencies),
        throttling=(*decode_throttled(flags), *_active_cooling(root)),
        throttled_before=decode_throttled(flags >> 16),
        throttle_events=_throttle_events(root),
        power_w=_watts(stats),
        power_mode=_power_mode(),
    )


def throttling_between(before: Condition, after: Condition) -> tuple[str, ...]:
    """Causes of throttling between two readings, if the board reports them; each cause once."""
    reasons = [*before.throttling, *after.throttling]
    reasons += [reason for reason in after.throttled_before if reason not in before.throttled_before]
    if after.throttle_events > before.throttle_events:
        reasons.append(f"{after.throttle_events - before.throttle_events} throttling events")
    return tuple(dict.fromkeys(reasons))


def decode_throttled(flags: int) -> tuple[str, ...]:
    """Meaning of the bits 0 to 3 of `get_throttled`."""
    return tuple(reason for bit, reason in THROTTLE_BITS.items() if flags >> bit & 1)


def _throttle_flags(root: Path) -> int:
    """The number of `vcgencmd get_throttled`; 0 on other boards."""
    text = _run_tool("vcgencmd", "get_throttled").partition("=")[2]
    text = text or read_text(root / "sys/devices/platform/soc/soc:firmware/get_throttled")
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _zone_temperature(root: Path) -> float | None:
    """Temperature of the processor's thermal zone, or of the hottest one if none has a known name."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*"))
    readings = [(read_text(zone / "type"), read_number(zone / "temp")) for zone in zones]
    known = [(kind, value / 1000) for kind, value in readings if value is not None]
    of_cpu = [value for kind, value in known if kind in CPU_ZONES]
    return max(of_cpu or [value for _, value in known], default=None)


def _active_cooling(root: Path) -> tuple[str, ...]:
    """Active cooling devices that slow the processor; fans are ignored."""
    active = []
    for device in sorted((root / "sys/class/thermal").glob("cooling_device*")):
        kind = read_text(device / "type")
        slows = "cpufreq" in kind or "cpu-throttle" in kind or kind == "Processor"
        if slows and (read_number(device / "cur_state") or 0) > 0:
            active.append("clock lowered because of heat")
    return tuple(dict.fromkeys(active))


def _throttle_events(root: Path) -> int:
    """Sum of the kernel's counters: of heat on x86, of voltage and current on Jetson."""
    counters = list((root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count"))
    counters += (root / "sys/devices/system/cpu").glob("cpu0/thermal_throttle/package_throttle_count")
    for name in OVER_CURRENT:
        counters += (root / "sys/class/hwmon").glob(f"hwmon*/{name}_event_cnt")
    return sum(read_number(counter) or 0 for counter in counters)


def _highest_mhz(folder: Path, name: str) -> float | None:
    values = [read_number(file) for file in folder.glob(f"cpu[0-9]*/cpufreq/{name}")]
    return max((value / 1000 for value in values if value), default=None)


def _governors(folder: Path) -> str:
    names = {read_text(file) for file in folder.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    return "+".join(sorted(filter(None, names)))


def _watts(stats: str) -> float | None:
    milliwatts = _stated(stats, r"\b(?:VDD_IN|VIN_SYS_5V0|POM_5V_IN) (\d+)")
    return None if milliwatts is None else milliwatts / 1000


def _stated(text: str, pattern: str) -> float | None:
    match = re.search(pattern, text)
    return float(match[1]) if match else None


def _power_mode() -> str:
    """Such as "15W" from the line "NV Power Mode: 15W"."""
    return _run_tool("nvpmodel", "-q").partition("NV Power Mode:")[2].strip().partition("\n")[0].strip()


def _run_tool(tool: str, *arguments: str) -> str:
    """Output of a board tool; empty if it is missing or fails."""
    path = shutil.which(tool)
    if path is None:
        return ""
    try:
        done = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _tegrastats() -> str:
    """One line of tegrastats, which would run endlessly; empty on other boards."""
    path = shutil.which("tegrastats")
    if path is None:
        return ""
    try:
        with subprocess.Popen([path, "--interval", "100"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            assert child.stdout is not None
            ready, _, _ = select.select([child.stdout], [], [], _TOOL_S)
            line = child.stdout.readline().decode(errors="replace") if ready else ""
            child.kill()
    except OSError:
        return ""
    return line

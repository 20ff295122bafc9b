"""A diagnosis as text for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from edge_mrcnn.doctor.diagnosis import AppliedRule, Diagnosis
from edge_mrcnn.doctor.facts import Facts, System
from edge_mrcnn.doctor.rules import FIX
from edge_mrcnn.doctor.wheels import WHEELS
from edge_mrcnn.tables import NONE, WIDTH, Table, counted
from runtimes.board import Board
from runtimes.formats import FORMATS

LABEL = 16
"""Width of the label column."""
RUNNERS = {format_.packages[0]: f"runs {format_.suffix}" for format_ in FORMATS.values()}
"""Preferred package of each format -> its purpose."""
SHOWN = (*RUNNERS, "numpy", "opencv-python-headless", "av", "pycocotools", "torch")
"""Packages that are listed even if they are not installed."""
JOBS = {
    **RUNNERS,
    "av": "network cameras",
    "pycocotools": "report, tune",
    "torch": "training; not needed on a device",
}


def to_text(diagnosis: Diagnosis) -> str:
    """The machine, its packages, the findings, and commands that fix them."""
    facts = diagnosis.facts
    lines = [click.style(facts.board.model, bold=True)]
    for label, text in _machine(facts):
        lines += _labelled(label, text)
    header, *body = _package_table(diagnosis).text()
    lines += ["", click.style(header, bold=True), *body]
    for finding in diagnosis.findings:
        lines += ["", *_finding_lines(finding)]
    lines += ["", *_conclusion(diagnosis)]
    return "\n".join(lines)


def _machine(facts: Facts) -> Iterator[tuple[str, str]]:
    yield "processor", _processor(facts.board)
    yield "memory", f"{facts.board.memory_bytes / 1e9:.1f} GB" if facts.board.memory_bytes else NONE
    yield "state", _state(facts)
    yield "system", _system(facts)
    yield "Python", _python(facts.system)
    yield "cameras", "; ".join(facts.cameras) or "no /dev/video*"
    yield "accelerators", "; ".join(facts.accelerators) or "none found"
    if "openvino" in facts.probes:
        devices = facts.probes["openvino"].answer.get("devices", {})
        names = [f"{name} ({full.strip()})" for name, full in devices.items()]
        yield "OpenVINO sees", "; ".join(names) or "nothing"
    opencv = facts.probes.get("opencv")
    if opencv and not opencv.error:
        yield "OpenCV", f"GStreamer {'yes' if opencv.answer['gstreamer'] else 'no'}"


def _processor(board: Board) -> str:
    features = ", ".join(board.features) or "no known instruction sets"
    return f"{board.processor}, {counted(board.cores, 'core')}; {features}"


def _system(facts: Facts) -> str:
    system = facts.system
    version = ".".join(str(number) for number in system.libc_version)
    libc = f"{system.libc} {version}".strip() or "unknown C library"
    jetson = f", Jetson Linux {facts.jetpack}" if facts.jetpack else ""
    jetson += " (CUDA 13)" if facts.has_cuda_13 else ""
    return f"{system.name}{jetson}, {system.machine}, {libc}"


def _python(system: System) -> str:
    version = ".".join(str(number) for number in system.python)
    isolated = ", in an environment without system packages" if system.is_isolated else ""
    return f"{version}, {system.bits}-bit{isolated}"


def _state(facts: Facts) -> str:
    condition = facts.condition
    parts = []
    if condition.temperature_c is not None:
        parts.append(f"{condition.temperature_c:.0f} °C")
    if condition.frequency_mhz and condition.max_frequency_mhz:
        parts.append(f"{condition.frequency_mhz:.0f} of {condition.max_frequency_mhz:.0f} MHz")
    if condition.governor:
        parts.append(f"governor {condition.governor}")
    if condition.power_mode:
        parts.append(f"power mode {condition.power_mode}")
    return ", ".join(parts) or "temperature and clock unknown"


def _package_table(diagnosis: Diagnosis) -> Table:
    packages = diagnosis.facts.packages
    others = [name for name in packages if name not in (*SHOWN, "edge-mrcnn")]
    known = WHEELS[0].versions
    rows = []
    for name in (*SHOWN, *others):
        newest = diagnosis.wheels.get(name, "none" if name in known else "")
        rows.append((name, packages.get(name, NONE), newest, JOBS.get(name, "")))
    return Table(("package", "installed", "newest compatible", ""), tuple(rows), text_columns=4)


def _labelled(label: str, text: str) -> list[str]:
    first, *more = _wrap(text, WIDTH - LABEL - 2)
    lines = [f"  {label:<{LABEL}}{first}"]
    for line in more:
        lines.append(" " * (LABEL + 2) + line)
    return lines


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def _finding_lines(finding: AppliedRule) -> list[str]:
    if finding.severity == FIX:
        mark = click.style("✗ fix  ", fg="red", bold=True)
    else:
        mark = click.style("• note ", fg="yellow")
    what, *more = _wrap(f"{finding.what}.", WIDTH - 7)
    lines = [mark + what]
    lines += [f"       {line}" for line in more]
    arrow = "→"
    for line in _wrap(f"{finding.advice}.", WIDTH - 9):
        lines.append(f"       {arrow} {line}")
        arrow = " "
    return lines


def _conclusion(diagnosis: Diagnosis) -> Iterator[str]:
    problems = sum(finding.severity == FIX for finding in diagnosis.findings)
    if problems:
        yield click.style(f"{counted(problems, 'problem')} to fix.", fg="red", bold=True)
    else:
        yield click.style("No problems found: models run here.", fg="green", bold=True)
    if diagnosis.fix_line:
        yield f"to fix: {diagnosis.fix_line}"
    if diagnosis.add_line:
        yield f"to add the other runtimes: {diagnosis.add_line}"

"""A diagnosis for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import click

from edge_mrcnn.doctor.diagnosis import AppliedRule, Diagnosis
from edge_mrcnn.doctor.facts import Facts, System
from edge_mrcnn.doctor.rules import FIX
from edge_mrcnn.doctor.wheels import WHEELS
from edge_mrcnn.tables import NONE, WIDTH, Table
from runtimes.board import Board
from runtimes.formats import FORMATS

LABEL = 16
"""Width of the words at the left."""
RUNNERS = {format_.packages[0]: f"runs {format_.suffix}" for format_ in FORMATS.values()}
"""First choice of package for each format -> what it does."""
SHOWN = (*RUNNERS, "numpy", "opencv-python-headless", "av", "pycocotools", "torch")
"""Packages that are listed even where they are not there."""
JOBS = {
    **RUNNERS,
    "av": "network cameras",
    "pycocotools": "report, tune",
    "torch": "training; a device needs none",
}


def to_text(diagnosis: Diagnosis) -> str:
    """The machine, its packages, the findings, and what to type."""
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
    yield "accelerators", "; ".join(facts.accelerators) or "none seen"
    if "openvino" in facts.probes:
        devices = facts.probes["openvino"].answer.get("devices", {})
        names = [f"{name} ({full.strip()})" for name, full in devices.items()]
        yield "OpenVINO sees", "; ".join(names) or "nothing"
    opencv = facts.probes.get("opencv")
    if opencv and not opencv.error:
        yield "OpenCV", f"GStreamer {'yes' if opencv.answer['gstreamer'] else 'no'}"


def _processor(board: Board) -> str:
    cores = "1 core" if board.cores == 1 else f"{board.cores} cores"
    features = ", ".join(board.features) or "no known instruction set"
    return f"{board.processor}, {cores}; {features}"


def _system(facts: Facts) -> str:
    system = facts.system
    version = ".".join(str(number) for number in system.libc_version)
    libc = f"{system.libc} {version}".strip() or "unknown C library"
    jetson = f", Jetson Linux {facts.jetpack}" if facts.jetpack else ""
    jetson += " (CUDA 13)" if facts.has_cuda_13 else ""
    return f"{system.name}{jetson}, {system.machine}, {libc}"


def _python(system: System) -> str:
    version = ".".join(str(number) for number in system.python)
    isolated = ", in an environment without the system's packages" if system.is_isolated else ""
    return f"{version}, {system.bits} bits{isolated}"


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
    return ", ".join(parts) or "it tells neither temperature nor clock"


def _package_table(diagnosis: Diagnosis) -> Table:
    packages = diagnosis.facts.packages
    others = [name for name in packages if name not in (*SHOWN, "edge-mrcnn")]
    known = WHEELS[0].versions
    rows = []
    for name in (*SHOWN, *others):
        newest = diagnosis.wheels.get(name, "none" if name in known else "")
        rows.append((name, packages.get(name, NONE), newest, JOBS.get(name, "")))
    return Table(("package", "installed", "newest that fits", ""), tuple(rows), text_columns=4)


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
        mark = click.style("✗ mend ", fg="red", bold=True)
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
    mends = sum(finding.severity == FIX for finding in diagnosis.findings)
    if mends:
        yield click.style(f"{mends} thing{'s' if mends > 1 else ''} must be mended.", fg="red", bold=True)
    else:
        yield click.style("All is well: models run here.", fg="green", bold=True)
    if diagnosis.fix_line:
        yield f"to mend: {diagnosis.fix_line}"
    if diagnosis.add_line:
        yield f"to add the other runtimes: {diagnosis.add_line}"

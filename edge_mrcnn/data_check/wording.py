"""The result as lines for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from edge_mrcnn.data.faults import SEVERITIES, Finding
from edge_mrcnn.data_check.survey import DataCheck, SplitSummary

EXAMPLES = 3
"""Maximum number of places in a terminal; the page and the JSON have all."""


def verdict(check: DataCheck) -> str:
    """The result in one sentence."""
    errors = check.count("error")
    warnings = check.count("warning")
    if errors:
        return f"{_counted(errors, 'fault')} must be fixed before training."
    if warnings:
        return f"Nothing must be fixed; {_counted(warnings, 'warning')} should be checked."
    return "No fault was found."


def describe_split(summary: SplitSummary) -> str:
    """Number of images, objects and classes."""
    present = [name for name, count in summary.classes.items() if count]
    images = _counted(summary.images, "image")
    objects = _counted(summary.objects, "object")
    classes = _counted(len(present), "class", "classes")
    line = f"{images}, {objects} of {classes}"
    if summary.crowds:
        line += f" and {_counted(summary.crowds, 'crowd')}"
    return line


def to_lines(check: DataCheck) -> list[str]:
    """Text for a terminal: the splits, then each finding with its count, examples and advice."""
    indent = " " * 18
    lines = []
    for summary in check.summaries:
        lines.append(f"{summary.name}: {describe_split(summary)}")
    for finding in check.findings:
        fault, count = finding.fault, len(finding.places)
        lines.append(f"{fault.severity:<8} {count:>6}  {fault.title} ({fault.name}): {fault.advice}")
        if fault.severity == "note":
            continue
        for place in finding.places[:EXAMPLES]:
            lines.append(f"{indent}{place}")
        if count > EXAMPLES:
            lines.append(f"{indent}and {count - EXAMPLES} more")
    return lines


def to_markdown(check: DataCheck) -> str:
    """A table of findings, then every place of those that are not notes."""
    lines = ["# Data check", "", verdict(check), ""]
    for summary in check.summaries:
        lines.append(f"- **{summary.name}**: {describe_split(summary)}")
    lines += ["", "| severity | count | what | what to do |", "|---|---:|---|---|"]
    for finding in check.findings:
        fault = finding.fault
        lines.append(f"| {fault.severity} | {len(finding.places)} | {fault.title} | {fault.advice} |")
    for finding in check.findings:
        if finding.fault.severity != "note":
            lines += _section(finding)
    return "\n".join(lines) + "\n"


def _section(finding: Finding) -> list[str]:
    """A heading and every place."""
    lines = ["", f"## {finding.fault.title} ({len(finding.places)})", ""]
    for place in finding.places:
        lines.append(f"- {place}")
    return lines


def to_json(check: DataCheck) -> str:
    """Everything: each finding with all its places, and the statistics of each split."""
    record = {
        "verdict": verdict(check),
        "counts": {severity: check.count(severity) for severity in SEVERITIES},
        "image_size_hw": list(check.image_size_hw),
        "compared_splits": check.compared,
        "splits": [_split_record(summary) for summary in check.summaries],
        "findings": [_finding_record(finding) for finding in check.findings],
    }
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _finding_record(finding: Finding) -> dict[str, object]:
    return {
        **asdict(finding.fault),
        "count": len(finding.places),
        "places": [asdict(place) for place in finding.places],
    }


def _split_record(summary: SplitSummary) -> dict[str, object]:
    per_image = {}
    for objects, images in sorted(summary.per_image.items()):
        per_image[str(objects)] = images
    sizes = {}
    for (width, height), images in summary.sizes.most_common():
        sizes[f"{width}x{height}"] = images
    return {
        "name": summary.name,
        "file": str(summary.path),
        "images": summary.images,
        "empty_images": summary.empty_images,
        "objects": summary.objects,
        "crowds": summary.crowds,
        "classes": summary.classes,
        "objects_per_image": per_image,
        "sizes": sizes,
    }


def _counted(count: int, one: str, many: str = "") -> str:
    if count == 1:
        return f"1 {one}"
    return f"{count:,} {many or one + 's'}"

"""A check as lines for a terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict

from edge_mrcnn.data.faults import SEVERITIES, Finding
from edge_mrcnn.data_check.survey import DataCheck, SplitSummary

EXAMPLES = 3
"""Places that are named in a terminal; the page and the JSON name all."""


def verdict(check: DataCheck) -> str:
    """The result in one sentence."""
    errors, warnings = check.count("error"), check.count("warning")
    if errors:
        return f"{_counted(errors, 'fault')} must be fixed before training."
    if warnings:
        return f"Nothing must be fixed; {_counted(warnings, 'warning')} should be looked at."
    return "No fault was found."


def describe_split(summary: SplitSummary) -> str:
    """How many images, objects and classes."""
    known = sum(1 for count in summary.classes.values() if count)
    classes = _counted(known, "class", "classes")
    crowds = f" and {_counted(summary.crowds, 'crowd')}" if summary.crowds else ""
    return f"{_counted(summary.images, 'image')}, {_counted(summary.objects, 'object')} of {classes}{crowds}"


def to_lines(check: DataCheck) -> list[str]:
    """What a terminal shows: the splits, then each finding with its count, examples and advice."""
    lines = [f"{summary.name}: {describe_split(summary)}" for summary in check.summaries]
    for finding in check.findings:
        fault = finding.fault
        lines.append(f"{fault.severity:<8} {len(finding.places):>6}  {fault.title} ({fault.name}): {fault.advice}")
        if fault.severity != "note":
            lines += [f"{'':>16}  {place}" for place in finding.places[:EXAMPLES]]
            lines += [f"{'':>16}  and {more} more" for more in [len(finding.places) - EXAMPLES] if more > 0]
    return lines


def to_markdown(check: DataCheck) -> str:
    """A table of findings, then every place of those that are no notes."""
    lines = ["# Data check", "", verdict(check), ""]
    lines += [f"- **{summary.name}**: {describe_split(summary)}" for summary in check.summaries]
    lines += ["", "| severity | count | what | what to do |", "|---|---:|---|---|"]
    lines += [f"| {f.fault.severity} | {len(f.places)} | {f.fault.title} | {f.fault.advice} |" for f in check.findings]
    for finding in check.findings:
        if finding.fault.severity != "note":
            lines += ["", f"## {finding.fault.title} ({len(finding.places)})", ""]
            lines += [f"- {place}" for place in finding.places]
    return "\n".join(lines) + "\n"


def to_json(check: DataCheck) -> str:
    """Everything: each finding with all its places, and the figures of each split."""
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
    return {**asdict(finding.fault), "count": len(finding.places), "places": [asdict(p) for p in finding.places]}


def _split_record(summary: SplitSummary) -> dict[str, object]:
    return {
        "name": summary.name,
        "file": str(summary.path),
        "images": summary.images,
        "empty_images": summary.empty_images,
        "objects": summary.objects,
        "crowds": summary.crowds,
        "classes": summary.classes,
        "objects_per_image": {str(k): v for k, v in sorted(summary.per_image.items())},
        "sizes": {f"{w}x{h}": count for (w, h), count in summary.sizes.most_common()},
    }


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"

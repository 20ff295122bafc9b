"""From facts to findings, and the command that fixes them."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict, dataclass

from edge_mrcnn.doctor.facts import Facts, parse_version
from edge_mrcnn.doctor.rules import FIX, RULES
from edge_mrcnn.doctor.wheels import EXTRAS, fitting_wheels, is_limited
from runtimes.formats import FORMATS


@dataclass(frozen=True)
class AppliedRule:
    """A rule that applies here."""

    rule: str
    severity: str
    """ "fix" or "note"."""
    what: str
    advice: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """The result of the check."""

    facts: Facts
    wheels: dict[str, str]
    """Package -> the newest release that is compatible with this machine."""
    findings: tuple[AppliedRule, ...]
    """Problems to fix first, then notes."""
    fix_line: str
    """Shell command with the fixes that pip can make; empty if there are none."""
    add_line: str
    """Shell command that installs the missing compatible runtimes; empty if none is missing."""

    @property
    def is_well(self) -> bool:
        """Whether there is no problem to fix."""
        return not any(finding.severity == FIX for finding in self.findings)

    def to_json(self) -> str:
        """All of it as one JSON object."""
        return json.dumps({"is_well": self.is_well, **asdict(self)}, indent=1) + "\n"


def diagnose(facts: Facts) -> Diagnosis:
    """Apply every rule to the facts."""
    found = []
    for rule in RULES:
        what = rule.find(facts)
        if what:
            found.append((rule, what))
    found.sort(key=lambda pair: pair[0].severity != FIX)
    to_mend = [rule for rule, _ in found if rule.severity == FIX]

    unwanted, wanted = [], []
    for rule in to_mend:
        unwanted += [name for name in rule.uninstall if facts.has(name)]
        wanted += [_fit(requirement, facts) for requirement in rule.install]
    missing = missing_runtimes(facts)
    if any(rule.name == "no runtime" for rule in to_mend):
        wanted += _requirements(missing, facts)
        missing = []

    findings = [AppliedRule(rule.name, rule.severity, what, rule.advice, rule.source) for rule, what in found]
    return Diagnosis(
        facts=facts,
        wheels=fitting_wheels(facts.system),
        findings=tuple(findings),
        fix_line=_pip_line(unwanted, wanted),
        add_line=_pip_line([], _requirements(missing, facts)),
    )


def missing_runtimes(facts: Facts) -> list[str]:
    """Packages of runtimes that are compatible with this machine and not installed."""
    wheels = fitting_wheels(facts.system)
    absent = [format_.packages[0] for format_ in FORMATS.values() if not any(map(facts.has, format_.packages))]
    return [name for name in absent if name in wheels]


def _fit(requirement: str, facts: Facts) -> str:
    """The requirement, or the newest compatible release if that is older."""
    name, _, least = requirement.partition(">=")
    newest = fitting_wheels(facts.system).get(name)
    if newest and parse_version(newest) < parse_version(least):
        return f"{name}=={newest}"
    return requirement


def _requirements(packages: list[str], facts: Facts) -> list[str]:
    """One requirement with all its extras, with exact releases if the newest is not compatible."""
    if not packages:
        return []
    extras = ",".join(EXTRAS[name] for name in packages)
    wheels = fitting_wheels(facts.system)
    pins = [f"{name}=={wheels[name]}" for name in packages if is_limited(name, facts.system)]
    return [f"edge-mrcnn[{extras}]", *pins]


def _pip_line(unwanted: list[str], wanted: list[str]) -> str:
    """One line for a shell; each word once."""
    steps = []
    if unwanted:
        steps.append(shlex.join(["pip", "uninstall", "-y", *dict.fromkeys(unwanted)]))
    if wanted:
        steps.append(shlex.join(["pip", "install", *dict.fromkeys(wanted)]))
    return " && ".join(steps)

"""What a model file is made of: its parts, what computes in integers, and where values leave them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edge_mrcnn.inspection.operator import PARTS, Operator
from quantize.parts import NO_KERNEL, find_part


@dataclass(frozen=True, kw_only=True)
class PartSummary:
    """One part of the net."""

    name: str
    """One of `PARTS`."""
    operators: int
    """Operators in it."""
    integer_layers: int
    """Learned layers that compute in integers."""
    float_layers: int
    """Learned layers that compute in float."""
    integer_weights: int
    """Weights that are multiplied in integers; those that layers share count once."""
    float_weights: int
    """Weights that are multiplied in float."""
    kinds: dict[str, int]
    """Operators by kind, the commonest first."""


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A place where values leave integer arithmetic."""

    count: int
    """How often."""
    source: str
    """Part that computes them in integers."""
    target: str
    """Part that reads them in float."""
    kind: str
    """The operator that reads them."""
    why: str
    """The reason, as far as it is known."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All of a model file."""

    parts: tuple[PartSummary, ...]
    """In the order of `PARTS`, those that have operators."""
    exits: tuple[Exit, ...]
    """The commonest first."""
    kinds: dict[str, int]
    """Operators by kind, the commonest first."""

    @property
    def integer_share(self) -> float:
        """Share of the weights that are multiplied in integers, in [0, 1]."""
        integer = sum(part.integer_weights for part in self.parts)
        floating = sum(part.float_weights for part in self.parts)
        return integer / max(1, integer + floating)


def summarize(operators: list[Operator], reasons: dict[str, str]) -> Summary:
    """Count operators and follow values.

    Args:
        operators: From `list_operators`.
        reasons: What stays in float, and why: "float" of the card's calibration.
    """
    parts = []
    for name in PARTS:
        of_part = [operator for operator in operators if operator.part == name]
        if of_part:
            parts.append(summarize_part(name, of_part))
    return Summary(
        parts=tuple(parts),
        exits=tuple(find_exits(operators, reasons)),
        kinds=_count_kinds(operators),
    )


def _count_kinds(operators: list[Operator]) -> dict[str, int]:
    """Operators by kind, the commonest first."""
    counts = Counter(operator.kind for operator in operators)
    return dict(counts.most_common())


def summarize_part(name: str, operators: list[Operator]) -> PartSummary:
    """Count the operators of one part."""
    layers = Counter[bool]()
    weights_of: dict[tuple[str, bool], int] = {}  # layers of one module share their weights
    for operator in operators:
        if operator.is_learned:
            layers[operator.is_integer] += 1
            weights_of[operator.module, operator.is_integer] = operator.weights
    weights = Counter[bool]()
    for (_, is_integer), count in weights_of.items():
        weights[is_integer] += count
    return PartSummary(
        name=name,
        operators=len(operators),
        integer_layers=layers[True],
        float_layers=layers[False],
        integer_weights=weights[True],
        float_weights=weights[False],
        kinds=_count_kinds(operators),
    )


def find_exits(operators: list[Operator], reasons: dict[str, str]) -> list[Exit]:
    """Where values go from integer operators to float ones, past what only converts or moves them."""
    readers = _readers(operators)
    found: Counter[tuple[str, str, str, str]] = Counter()
    for index, operator in enumerate(operators):
        if not operator.is_integer or operator.is_wiring:
            continue
        for target in _float_readers(index, operators, readers):
            why = explain(operator, target, reasons)
            found[operator.part, target.part, target.kind, why] += 1
    exits = []
    for (source, target_part, kind, why), count in found.most_common():
        exits.append(Exit(count=count, source=source, target=target_part, kind=kind, why=why))
    return exits


def _readers(operators: list[Operator]) -> list[list[int]]:
    """For each operator, the places of those that read its result."""
    readers: list[list[int]] = [[] for _ in operators]
    for index, operator in enumerate(operators):
        for source in operator.sources:
            readers[source].append(index)
    return readers


def _float_readers(start: int, operators: list[Operator], readers: list[list[int]]) -> list[Operator]:
    """The float operators that read a value first."""
    found, waiting, seen = [], list(readers[start]), set()
    while waiting:
        index = waiting.pop()
        if index in seen:
            continue
        seen.add(index)
        if operators[index].is_wiring:
            waiting.extend(readers[index])
        elif not operators[index].is_integer:
            found.append(operators[index])
    return found


def explain(source: Operator, target: Operator, reasons: dict[str, str]) -> str:
    """Why an operator reads in float what another computed in integers.

    Args:
        source: The integer one.
        target: The float one.
        reasons: What stays in float, and why: "float" of the card's calibration.
    """
    for operators in NO_KERNEL.values():
        if target.kind in operators:
            return operators[target.kind]
    part = find_part(target.name)
    if part is not None and not part.why_float:
        return reasons.get(target.part, "not quantized")
    key = "box arithmetic" if part is None else part.name
    if key == "box arithmetic" and source.part == "mask_head":
        key = "mask logits"  # what multiplies the mask head's last maps is in no module of its own
    return reasons.get(key, "not quantized")

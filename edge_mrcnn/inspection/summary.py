"""Summary of a model file: its parts, INT8 layers, and conversions from INT8 to float."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edge_mrcnn.inspection.operator import PARTS, Operator
from quantize.parts import NO_KERNEL, find_part


@dataclass(frozen=True, kw_only=True)
class PartSummary:
    """One part of the model."""

    name: str
    """One of `PARTS`."""
    operators: int
    """Number of its operators."""
    integer_layers: int
    """Number of learned layers in INT8."""
    float_layers: int
    """Number of learned layers in float."""
    integer_weights: int
    """Number of weights in INT8; shared weights count once."""
    float_weights: int
    """Number of weights in float."""
    kinds: dict[str, int]
    """Operators by kind, the most frequent first."""


@dataclass(frozen=True, kw_only=True)
class Exit:
    """A conversion from INT8 to float."""

    count: int
    """Number of such conversions."""
    source: str
    """Part that computes the values in INT8."""
    target: str
    """Part that reads them in float."""
    kind: str
    """The operator that reads them."""
    why: str
    """The reason, if it is known."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The whole model file."""

    parts: tuple[PartSummary, ...]
    """In the order of `PARTS`, those with operators."""
    exits: tuple[Exit, ...]
    """The most frequent first."""
    kinds: dict[str, int]
    """Operators by kind, the most frequent first."""

    @property
    def integer_share(self) -> float:
        """Share of the weights in INT8, in [0, 1]."""
        integer = sum(part.integer_weights for part in self.parts)
        floating = sum(part.float_weights for part in self.parts)
        return integer / max(1, integer + floating)


def summarize(operators: list[Operator], reasons: dict[str, str]) -> Summary:
    """Count operators and trace values.

    Args:
        operators: From `list_operators`.
        reasons: Layers kept in float, and the reason: "float" of the card's calibration.
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
    """Operators by kind, the most frequent first."""
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
    """Places where values go from INT8 operators to float ones, ignoring operators that only convert or move them."""
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
    """For each operator, the positions of its consumers."""
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
    """Why an operator reads in float what another one computed in INT8.

    Args:
        source: The INT8 operator.
        target: The float operator.
        reasons: Layers kept in float, and the reason: "float" of the card's calibration.
    """
    for operators in NO_KERNEL.values():
        if target.kind in operators:
            return operators[target.kind]
    part = find_part(target.name)
    if part is not None and not part.why_float:
        return reasons.get(target.part, "not quantized")
    key = "box arithmetic" if part is None else part.name
    if key == "box arithmetic" and source.part == "mask_head":
        key = "mask logits"  # the product with the mask head's last feature maps is in no module of its own
    return reasons.get(key, "not quantized")

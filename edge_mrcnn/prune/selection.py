"""Which channels go: the least loss for the most cost saved, over all groups at once, until the budget is met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from edge_mrcnn.prune.costs import CostModel, Widths
from edge_mrcnn.prune.groups import ChannelGroup


@dataclass(frozen=True)
class _Removal:
    """A group becomes narrower by some channels."""

    group: str
    channels: int
    loss: float
    saved: float


def choose_channels(
    groups: Sequence[ChannelGroup],
    importance: Mapping[str, Tensor],
    widths: Widths,
    cost: CostModel,
    budget: float,
    *,
    round_to: int = 8,
    floors: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Choose greedily, then give back the dearest steps that turn out not to be needed.

    Args:
        groups: Groups of channels.
        importance: Group to (width,), what the loss gains by removing each.
        widths: Of all layers; they become those of the result.
        cost: What they cost.
        budget: Total cost to reach, in the unit of `cost`.
        round_to: Widths step from multiple to multiple of this.
        floors: Group to the least width that it keeps; `round_to` where nothing is said.

    Returns:
        Group to the channels that go, (n,) int64; fewer than the budget asks for where the floors are reached.
    """
    orders = {group.name: importance[group.name].argsort() for group in groups}
    losses = {group.name: importance[group.name].sort().values.double().cumsum(0) for group in groups}
    least = {group.name: max(round_to, (floors or {}).get(group.name, 0)) for group in groups}
    left = {group.name: group.width for group in groups}
    taken: list[_Removal] = []
    while widths.total(cost) > budget:
        steps = [s for g in groups if (s := _next_step(g, left[g.name], least, losses, widths, cost, round_to))]
        if not steps:
            break
        step = min(steps, key=lambda s: s.loss / s.saved)
        left[step.group] -= step.channels
        widths.remove(step.group, step.channels)
        taken.append(step)
    _give_back(taken, left, widths, cost, budget)
    return {g.name: orders[g.name][: g.width - left[g.name]] for g in groups if left[g.name] < g.width}


def _next_step(
    group: ChannelGroup, left: int, least: Mapping[str, int], losses: Mapping[str, Tensor], widths: Widths,
    cost: CostModel, round_to: int,
) -> _Removal | None:  # fmt: skip
    channels = left % round_to or round_to
    if left - channels < least[group.name]:
        return None
    saved = widths.saving(group.name, channels, cost)
    gone = group.width - left
    before = float(losses[group.name][gone - 1]) if gone else 0.0
    loss = float(losses[group.name][gone + channels - 1]) - before
    return _Removal(group.name, channels, loss, saved) if saved > 0 else None


def _give_back(taken: Sequence[_Removal], left: dict[str, int], widths: Widths, cost: CostModel, budget: float) -> None:
    """Undo the last step of a group while the budget is met without it, the dearest first."""
    last = {step.group: step for step in taken}
    for step in sorted(last.values(), key=lambda s: -s.loss):
        widths.remove(step.group, -step.channels)
        if widths.total(cost) > budget:
            widths.remove(step.group, step.channels)
        else:
            left[step.group] += step.channels

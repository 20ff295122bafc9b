"""Selection of channels: the smallest increase of the loss per cost saved, over all groups at once, until the budget is
met."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from edge_mrcnn.prune.costs import CostModel, Widths
from edge_mrcnn.prune.groups import ChannelGroup


@dataclass(frozen=True)
class _Removal:
    """A group loses some channels."""

    group: str
    channels: int
    loss: float
    saved: float

    @property
    def price(self) -> float:
        """Increase of the loss per unit of cost saved."""
        return self.loss / self.saved


class _Group:
    """A group that is narrowed, its least important channels first."""

    def __init__(self, group: ChannelGroup, importance: Tensor, least: int, round_to: int) -> None:
        self.name = group.name
        self.width = group.width
        self.left = group.width
        self._order = importance.argsort()
        # Entry k: loss if the k + 1 least important channels are removed.
        self._losses = importance.sort().values.double().cumsum(0)
        self._least = least
        self._round_to = round_to

    def next_step(self, widths: Widths, cost: CostModel) -> _Removal | None:
        """Down to the next multiple; None if that is too narrow or saves nothing."""
        channels = self.left % self._round_to or self._round_to
        if self.left - channels < self._least:
            return None
        saved = widths.saving(self.name, channels, cost)
        if saved <= 0:
            return None
        gone = self.width - self.left
        loss = self._loss_of(gone + channels) - self._loss_of(gone)
        return _Removal(self.name, channels, loss, saved)

    def removed(self) -> Tensor:
        """(n,) int64 channels that are removed."""
        return self._order[: self.width - self.left]

    def _loss_of(self, channels: int) -> float:
        return float(self._losses[channels - 1]) if channels else 0.0


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
    """Select greedily, then revert the most expensive steps that turn out to be unnecessary.

    Args:
        groups: Groups of channels.
        importance: Group -> (width,), the increase of the loss if each channel is removed.
        widths: Widths of all layers; set to those of the result.
        cost: Cost function.
        budget: Total cost to reach, in the unit of `cost`.
        round_to: Widths are multiples of this.
        floors: Group -> minimum width; default `round_to`.

    Returns:
        Group -> the removed channels, (n,) int64; fewer than the budget needs if all minimum widths are reached.
    """
    floors = floors or {}
    shrinking = {}
    for group in groups:
        least = max(round_to, floors.get(group.name, 0))
        shrinking[group.name] = _Group(group, importance[group.name], least, round_to)

    taken: list[_Removal] = []
    while widths.total(cost) > budget:
        step = _cheapest_step(shrinking.values(), widths, cost)
        if step is None:
            break
        shrinking[step.group].left -= step.channels
        widths.remove(step.group, step.channels)
        taken.append(step)
    _give_back(taken, shrinking, widths, cost, budget)

    return {name: group.removed() for name, group in shrinking.items() if group.left < group.width}


def _cheapest_step(groups: Iterable[_Group], widths: Widths, cost: CostModel) -> _Removal | None:
    """The next step with the smallest increase of the loss per cost saved; None if no group can be narrowed."""
    cheapest = None
    for group in groups:
        step = group.next_step(widths, cost)
        if step is not None and (cheapest is None or step.price < cheapest.price):
            cheapest = step
    return cheapest


def _give_back(
    taken: Sequence[_Removal], groups: Mapping[str, _Group], widths: Widths, cost: CostModel, budget: float
) -> None:
    """Revert the last step of groups while the budget is met without it, the most expensive first."""
    last_steps = {step.group: step for step in taken}
    for step in sorted(last_steps.values(), key=lambda step: -step.loss):
        widths.remove(step.group, -step.channels)
        if widths.total(cost) > budget:
            widths.remove(step.group, step.channels)
        else:
            groups[step.group].left += step.channels

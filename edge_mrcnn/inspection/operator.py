"""One operator of a model file, as far as the formats agree on what that is."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.parts import part_of


@dataclass(frozen=True)
class Operator:
    """One node of a graph."""

    kind: str
    """The format's own name of the operator, such as "Conv" or "CONV_2D"."""
    name: str
    """The node's name, which starts with the module it comes from."""
    is_learned: bool
    """Whether it multiplies with weights: a convolution or a matrix product."""
    is_integer: bool
    """Whether its operands are integers when the runtime executes it."""

    @property
    def part(self) -> str:
        """The part of the net that it belongs to."""
        return part_of(self.name) or "arithmetic"

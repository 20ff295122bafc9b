"""One operator of a model file, as far as the formats agree on what that is."""

from __future__ import annotations

from dataclasses import dataclass

from quantize import parts

PARTS = tuple(dict.fromkeys(part.of for part in parts.PARTS))
"""Where in the net an operator is; "decoding" is all box arithmetic: normalisation, decoding, choosing, NMS."""

ROOT = "deploy"
"""Name of what is in no module."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One node of a graph."""

    kind: str
    """The format's own name of the operator, such as "Conv" or "CONV_2D"."""
    name: str
    """The node's name, which starts with the module it comes from."""
    weights: int = 0
    """Numbers that it multiplies with and adds, if it is a convolution or a matrix product with constant weights."""
    is_integer: bool = False
    """Whether its operands are integers when the runtime executes it."""
    is_wiring: bool = False
    """Whether it only converts between integers and floats, or moves values without looking at them."""
    sources: tuple[int, ...] = ()
    """Places in the list of operators of those that feed it."""

    @property
    def is_learned(self) -> bool:
        """Whether it multiplies with weights."""
        return self.weights > 0

    @property
    def part(self) -> str:
        """The one of `PARTS` that it belongs to."""
        return self._named_part or "decoding"

    @property
    def is_stray(self) -> bool:
        """Whether its name does not tell where it belongs."""
        return self._named_part is None

    @property
    def _named_part(self) -> str | None:
        part = parts.find_part(self.name)
        return None if part is None else part.of

    @property
    def module(self) -> str:
        """The module it comes from."""
        return self.name.split("/")[0]

"""One operator of a model file, in terms that all formats share."""

from __future__ import annotations

from dataclasses import dataclass

from quantize import parts

PARTS = tuple(dict.fromkeys(part.of for part in parts.PARTS))
"""Parts of the model; "decoding" is all box arithmetic: normalisation, decoding, selection, NMS."""

ROOT = "deploy"
"""Name of operators outside all modules."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One node of a graph."""

    kind: str
    """The format's own name of the operator, such as "Conv" or "CONV_2D"."""
    name: str
    """The node's name, which starts with its module."""
    weights: int = 0
    """Number of weights and biases of a convolution or matrix product with constant weights."""
    is_integer: bool = False
    """Whether its operands are integers at run time."""
    is_wiring: bool = False
    """Whether it only converts between integers and floats, or moves values unchanged."""
    sources: tuple[int, ...] = ()
    """Positions of its producers in the list of operators."""

    @property
    def is_learned(self) -> bool:
        """Whether it has weights."""
        return self.weights > 0

    @property
    def part(self) -> str:
        """Its part, one of `PARTS`."""
        return self._named_part or "decoding"

    @property
    def is_stray(self) -> bool:
        """Whether its name does not tell its module."""
        return self._named_part is None

    @property
    def _named_part(self) -> str | None:
        part = parts.find_part(self.name)
        return None if part is None else part.of

    @property
    def module(self) -> str:
        """Its module."""
        return self.name.split("/")[0]

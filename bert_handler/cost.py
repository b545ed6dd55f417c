"""What a forward costs: by this the scheduler chooses which rows share one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """Times of a forward and its rows, in the time of one token.

    start: of a forward, whatever is in it; so much padding is cheaper than one more forward.
    own, longest, attention: a row of l tokens, in a forward whose longest row has L, takes
    own * l + longest * L + attention * L**2.
    """

    start: float
    own: float = 0.0
    longest: float = 1.0
    attention: float = 0.0

    def beside(self, longest: int) -> float:
        """The part of a row's cost that the longest row decides, whatever the row's own length."""
        return longest * (self.longest + self.attention * longest)

    def alone(self, length: int) -> float:
        """The cost of a row among its equals."""
        return self.own * length + self.beside(length)


PADDED = Cost(start=5)
"""On two cores 4 to 10 were fastest with onnx and torch alike, and 20 already a tenth slower."""
FUSED_ATTENTION = Cost(start=12, own=1, longest=0, attention=1 / 800)
"""Attention alone is padded: fitted to forwards of a model with 384 features (onnx, fp32, one core)."""
ATTENTION = Cost(start=12, own=1, longest=0, attention=1 / 400)
"""The same where it is many operators, from MPNet's (1 / 750) to those of DeBERTa (1 / 240)."""
GPU = Cost(start=512)
"""A GPU is still waiting for its kernels where a CPU has long begun."""
COSTS = {"all": PADDED, "fused attention": FUSED_ATTENTION, "attention": ATTENTION}
"""Of a graph, by what of it is padded."""

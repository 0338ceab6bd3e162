"""What a softmax is taken of: integers on a grid or their negatives, and masks added to them or put in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["Scores"]


@dataclass(frozen=True, eq=False)
class Scores:
    """How to get the scores, in steps of `scale` from 0; none lie further apart than `span`, if that is known.

    Attributes:
        slots: what `run` takes.
        scale: of one step.
        span: the greatest difference of two scores, in steps.
        run: gives them, int64.
    """

    slots: tuple[str, ...]
    scale: float
    span: int | None
    run: Callable[..., Tensor]

    @classmethod
    def of(cls, plan: Plan, value: ir.Value | None) -> Scores:
        """Those in `value`: what is added to them there from outside is brought to their steps, in 32 bits.

        Raises:
            NotIntegerError: they are not quantized.
        """
        node = None if value is None or plan.is_known(value) else value.producer()
        inputs = () if node is None else node.inputs
        if node is not None and node.op_type == "Neg":
            return cls.of(plan, inputs[0])._negated()
        outside = [plan.is_outside(each) for each in inputs]
        if node is not None and node.op_type == "Add" and any(outside):
            mask, scores = inputs if outside[0] else reversed(inputs)
            return cls.of(plan, scores)._added(plan, mask)
        if node is not None and node.op_type == "Where" and outside[0] and any(outside[1:]):
            fill, scores = inputs[1:] if outside[1] else reversed(inputs[1:])
            return cls.of(plan, scores)._replaced(plan, inputs[0], fill, where=outside[1])
        slot, grid = plan.grid(value)
        return cls((slot,), grid.scale, grid.high - grid.low, lambda q: grid.centered(q).long())

    def _negated(self) -> Scores:
        return Scores(self.slots, self.scale, self.span, lambda *given: -self.run(*given))

    def _added(self, plan: Plan, mask: ir.Value | None) -> Scores:
        slots = (plan.stepped(mask, self.scale), *self.slots)
        return Scores(slots, self.scale, None, lambda mask, *given: self.run(*given) + mask)

    def _replaced(self, plan: Plan, condition: ir.Value | None, fill: ir.Value | None, where: bool) -> Scores:
        slots = (plan.plain(condition), plan.stepped(fill, self.scale), *self.slots)

        def run(chosen: Tensor, fill: Tensor, *given: Tensor) -> Tensor:
            return torch.where(chosen == where, fill, self.run(*given))

        return Scores(slots, self.scale, None, run)

"""Which is largest: exact on integers, the first one where several are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._arguments import arguments
from ._forms import NotIntegerError, Plain, Target
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["arg_extreme", "top_k"]


def arg_extreme(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """ArgMax and ArgMin."""
    slot, _ = plan.grid(node.inputs[0])
    axis, keep = int(str(attribute(node, "axis", 0))), bool(attribute(node, "keepdims", 1))
    if attribute(node, "select_last_index", 0):
        raise NotIntegerError("it picks the last of equals")
    pick = torch.argmax if node.op_type == "ArgMax" else torch.argmin
    return Made(lambda q: pick(q, axis, keepdim=keep), (slot,), (Plain(),))


def top_k(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The `k` largest and where they are, in order; of equals the one with the lower index first."""
    slot, grid = plan.grid(node.inputs[0])
    axis, largest = int(str(attribute(node, "axis", -1))), bool(attribute(node, "largest", 1))
    slots, complete = arguments(plan, node)

    def run(q: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        (k,) = complete(*given)
        assert k is not None
        values, index = torch.sort(q, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, int(k)), index.narrow(axis, 0, int(k))

    return Made(run, (slot, *slots), (grid, Plain()))

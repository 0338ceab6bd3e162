"""What asks only for the shape of a value: nothing is read out for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._forms import NotIntegerError, Plain, Target, Weight
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["shape"]


def shape(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The sizes, or those from `start` to `end`; of Size, their product."""
    x = node.inputs[0]
    form = plan.form(x)
    if x is None or isinstance(form, Weight):
        raise NotIntegerError("its input is missing")
    start, end = attribute(node, "start", 0), attribute(node, "end")
    kept = slice(int(str(start)), None if end is None else int(str(end)))

    def run(x: Tensor) -> Tensor:
        return torch.tensor(x.numel() if node.op_type == "Size" else list(x.shape)[kept], dtype=torch.int64)

    return Made(run, (plan.slot(x),), (Plain(),))

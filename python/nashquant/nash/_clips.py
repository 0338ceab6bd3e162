"""ReLU and Clip: in front of a quantizer they are the ends of its grid; elsewhere, exact on integers or not at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._forms import Accumulator, Grid, NotIntegerError, Root, Target
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["CLIPS", "bounds", "clip"]

CLIPS = ("Relu", "Clip")


def bounds(plan: Plan, nodes: Sequence[ir.Node], grid: Grid) -> tuple[int, int]:
    """What the clips `nodes` leave of `grid`. Rounding keeps order, so clipping may come after it."""
    low, high = grid.low, grid.high
    for node in nodes:
        least, most = (grid.on_grid(end) for end in _ends(plan, node))
        low, high = (min(max(end, least), most) for end in (low, high))
    return low, high


def clip(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Where no quantizer follows: the integers clipped, if the ends are integers of their grid."""
    x = node.inputs[0]
    form = plan.form(x)
    least, most = _ends(plan, node)
    assert x is not None
    if isinstance(form, Accumulator) and (least, most) == (0.0, math.inf):
        return Made(lambda acc: acc.clamp(min=0), (plan.slot(x),), (form,))
    if isinstance(form, Root) and most == math.inf:
        return Made(lambda root: root.clamp(min=least), (plan.slot(x),), (form,))
    if not isinstance(form, Grid):
        raise NotIntegerError(f"no quantizer behind it, and its input {x.name!r} is not quantized")
    for end in (least, most):
        steps = end / form.scale
        if math.isfinite(end) and steps != round(steps):
            raise NotIntegerError(f"no quantizer behind it, and {end:g} is no whole number of its steps")
    low, high = form.on_grid(least), form.on_grid(most)

    def run(q: Tensor) -> Tensor:
        return q.clamp(low, high)

    return Made(run, (plan.slot(x),), (form,))


def _ends(plan: Plan, node: ir.Node) -> tuple[float, float]:
    if node.op_type == "Relu":
        return 0.0, math.inf
    found = []
    for i, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        value = node.inputs[i] if len(node.inputs) > i else None
        constant = plan.constant(value)
        if value is not None and constant is None:
            raise NotIntegerError("the ends of the clip are computed")
        found.append(float(str(attribute(node, name, default))) if constant is None else float(constant))
    if torch.tensor(found).isnan().any():
        raise NotIntegerError("the ends of the clip are NaN")
    return found[0], found[1]

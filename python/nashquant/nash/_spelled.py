"""Norms and softmaxes that a file writes in their parts, known by their last op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from . import _elementwise, _normalize, _softmax
from ._arguments import axes_of
from ._forms import Target
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["add", "div", "mul"]


def add(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """A sum; or a norm and its bias."""
    return _norm(plan, node, target) or _elementwise.add(plan, node, target)


def mul(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """A product; or `x / √(mean(x²) + ε)`, and that times a constant gain, which is one norm."""
    return _norm(plan, node, target) or _elementwise.mul(plan, node, target)


def div(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """A division; or a norm, or `exp(x - max(x)) / Σ exp(x - max(x))`."""
    return _norm(plan, node, target) or _soft(plan, node, target) or _elementwise.div(plan, node, target)


def _norm(plan: Plan, node: ir.Node, target: Target | None) -> Made | None:
    """`norm · gain + bias`, as one; None if `node` ends no norm."""
    if target is None:
        return None
    of, bias = _peeled(plan, node, "Add", 0.0)
    of, gain = _peeled(plan, of, "Mul", 1.0)
    core = None if of is None else _Core.of(plan, of)
    sizes = [] if core is None else _normalize.sizes_of(core.x)
    if core is None or not all(_lies_in(constant, [sizes[axis] for axis in core.over]) for constant in (gain, bias)):
        return None
    return _normalize.norm(plan, core.x, target, sizes, core.over, (gain, bias), core.epsilon, core.centered)


def _peeled(plan: Plan, node: ir.Node | None, op: str, default: float) -> tuple[ir.Node | None, Tensor]:
    """What a constant is added to, or multiplied with, and the constant; else `node` and what changes nothing."""
    if node is not None and node.op_type == op:
        for constant, other in (node.inputs, reversed(node.inputs)):
            found = plan.constant(constant)
            if found is not None and other is not None:
                return other.producer(), found.double()
    return node, torch.tensor(default, dtype=torch.float64)


def _lies_in(constant: Tensor, sizes: list[int | None]) -> bool:
    """Whether `constant` has a number for each element of the last axes, and no more."""
    pairs = zip(reversed(constant.shape), reversed(sizes), strict=False)
    return constant.dim() <= len(sizes) and all(n in (1, size) for n, size in pairs)


@dataclass(frozen=True, eq=False)
class _Core:
    """`x / √(mean(x²) + ε)` over the axes `over`, the last ones; centered: of what is left of x without its mean."""

    x: ir.Value
    over: tuple[int, ...]
    epsilon: float
    centered: bool

    @classmethod
    def of(cls, plan: Plan, node: ir.Node) -> _Core | None:
        """The one that `node` ends, if it does."""
        for x, factor in (node.inputs, reversed(node.inputs)) if node.op_type in ("Mul", "Div") else ():
            variance = _under_root(plan, factor, divides=node.op_type == "Div")
            if x is None or variance is None or (node.op_type == "Div" and x is not node.inputs[0]):
                continue
            mean, epsilon = _peeled(plan, variance, "Add", 0.0)
            over = None if mean is None else _averaged(plan, mean)
            if mean is None or over is None or epsilon.numel() != 1 or not _is_square(plan, mean.inputs[0], x):
                continue
            source = _without_mean(plan, x, over)
            return cls(source or x, over, float(epsilon), source is not None)
        return None


def _under_root(plan: Plan, value: ir.Value | None, divides: bool) -> ir.Node | None:
    """The node under the root in `√v`, or in `1 / √v` if that is multiplied."""
    node = None if value is None else value.producer()
    if node is not None and not divides:
        if node.op_type == "Pow" and _is(plan, node.inputs[1], -0.5):
            return None if node.inputs[0] is None else node.inputs[0].producer()
        one_over = node.op_type == "Reciprocal" or (node.op_type == "Div" and _is(plan, node.inputs[0], 1.0))
        below = node.inputs[-1] if one_over else None
        node = None if below is None else below.producer()
    if node is None or not (node.op_type == "Sqrt" or (node.op_type == "Pow" and _is(plan, node.inputs[1], 0.5))):
        return None
    return None if node.inputs[0] is None else node.inputs[0].producer()


def _averaged(plan: Plan, node: ir.Node) -> tuple[int, ...] | None:
    """The axes that a ReduceMean averages, counted from the end, if they are the last ones and stay."""
    if node.op_type != "ReduceMean" or not attribute(node, "keepdims", 1):
        return None
    axes, rank = axes_of(plan, node), len(_normalize.sizes_of(node.inputs[0]))
    over = () if axes is None else tuple(sorted(axis % rank - rank for axis in axes))
    return over if over and over == tuple(range(-len(over), 0)) else None


def _is_square(plan: Plan, value: ir.Value | None, x: ir.Value) -> bool:
    node = None if value is None else value.producer()
    if node is None or node.inputs[0] is not x:
        return False
    return (node.op_type == "Mul" and node.inputs[1] is x) or (node.op_type == "Pow" and _is(plan, node.inputs[1], 2.0))


def _without_mean(plan: Plan, x: ir.Value, over: tuple[int, ...]) -> ir.Value | None:
    """What the mean over the same axes was taken off, if `x` is such a difference."""
    node = x.producer()
    if node is None or node.op_type != "Sub" or node.inputs[1] is None or node.inputs[0] is None:
        return None
    mean = node.inputs[1].producer()
    if mean is None or mean.inputs[0] is not node.inputs[0] or _averaged(plan, mean) != over:
        return None
    return node.inputs[0]


def _is(plan: Plan, value: ir.Value | None, number: float) -> bool:
    constant = plan.constant(value)
    return constant is not None and constant.flatten().tolist() == [number]


def _soft(plan: Plan, node: ir.Node, target: Target | None) -> Made | None:
    """The softmax that `node` ends, with or without the greatest taken off first; None if it ends none."""
    exp, total = (None if value is None else value.producer() for value in node.inputs)
    if target is None or exp is None or total is None or exp.op_type != "Exp" or total.op_type != "ReduceSum":
        return None
    axes, x = axes_of(plan, total), exp.inputs[0]
    if total.inputs[0] is not node.inputs[0] or axes is None or len(axes) != 1 or not attribute(total, "keepdims", 1):
        return None
    less = None if x is None else x.producer()
    if less is not None and less.op_type == "Sub" and less.inputs[1] is not None:
        most = less.inputs[1].producer()
        if most is None or most.op_type != "ReduceMax" or most.inputs[0] is not less.inputs[0]:
            return None
        if axes_of(plan, most) != axes or not attribute(most, "keepdims", 1):
            return None
        x = less.inputs[0]
    return _softmax.of_axis(plan, x, axes[0], target)

"""Roots between two quantizers, and what is divided by them: exact under the root, a factor of 31 bits outside.

In words: sums of squares are exact integers. Their root is an f64, rounded once as IEEE says; what is divided by it is
multiplied by the factor nearest to its reciprocal, and the root itself lands as the factor nearest to it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from nashquant import ops

from . import _inner, _pointwise
from ._arguments import axes_of
from ._fixed_point import Factors
from ._forms import Accumulator, NotIntegerError, Root, Target
from ._inner import Wide
from ._pools import count
from ._rescale import regrid
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["divided", "norm", "on_root", "power", "reciprocal", "square_root"]

_SHARE_BITS = 20  # behind the point, of what is divided by its own norm
_SQUARE_BITS = 62  # hold a sum of squares


def square_root(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`√x` of an accumulator; of a grid it is a table."""
    made = _as_table(plan, node, target)
    if made is not None:
        return made
    form = plan.form(node.inputs[0])
    if not isinstance(form, Accumulator) or form.scale.dim():
        raise NotIntegerError("it is a root of no sum")
    scale, given = form.scale, node.inputs[0]
    assert given is not None

    def run(acc: Tensor) -> Tensor:
        return (acc.double() * scale).clamp(min=0).sqrt()

    return _landed(plan, Made(run, (plan.slot(given),), (Root(),)), target)


def norm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """ReduceL2: `√Σq² · scale`. What is no integer of a grid is first rounded to the bits that its squares leave."""
    axes, keep = axes_of(plan, node), bool(attribute(node, "keepdims", 1))
    given = Wide.of(plan, node.inputs[0])
    if axes == ():
        raise NotIntegerError("it reduces nothing")
    shift = 0
    if given.bound > 2**15:
        known = count(node, axes)
        if known is None:
            raise NotIntegerError("how many elements it reduces is not known before it runs")
        _inner.within(given.bound)
        shift = max(0, math.ceil(math.log2(given.bound) - (_SQUARE_BITS - math.log2(max(known, 1))) / 2))
    scale = math.ldexp(given.scale, shift)
    in_place = keep or axes is None  # else it may meet other rows than those it was taken of

    def squares(x: Tensor) -> Tensor:
        x = given.take(x)
        x = ops.shifted(x, shift, plan.arithmetic.rounding) if shift else x
        return (x * x).sum(tuple(range(x.dim())) if axes is None else axes, keepdim=keep)

    form, counted = Root(node.inputs[0] if in_place else None), None if given.bound > 2**15 else squares
    return _landed(plan, Made(lambda x: squares(x).double().sqrt() * scale, (given.slot,), (form,), counted), target)


def power(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The square of an accumulator, its root, or one over that."""
    made = _as_table(plan, node, target)
    if made is not None:
        return made
    exponent = plan.constant(node.inputs[1])
    kind = None if exponent is None or exponent.numel() != 1 else float(exponent)
    if kind == 2.0:
        return _inner.product(plan, node.inputs[0], node.inputs[0], target)
    if kind not in (0.5, -0.5):
        raise NotIntegerError("a power of several values, or of a sum and no square or root")
    root = square_root(plan, node, None)
    if kind == 0.5:
        return _landed(plan, root, target)
    return _landed(plan, replace(root, run=lambda acc: 1 / cast("Tensor", root.run(acc))), target)


def reciprocal(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`1 / root`."""
    made = _as_table(plan, node, target)
    if made is not None:
        return made
    if not isinstance(plan.form(node.inputs[0]), Root):
        raise NotIntegerError("it is one over what is no root")
    assert node.inputs[0] is not None
    return _landed(plan, Made(lambda x: 1 / x, (plan.slot(node.inputs[0]),), (Root(),)), target)


def on_root(plan: Plan, node: ir.Node, target: Target | None) -> Made | None:
    """A positive constant added to a root, multiplied with it, or the larger of both; None if it is none of it."""
    x, by = node.inputs[:2]
    if plan.constant(x) is not None:
        x, by = by, x
    number = plan.constant(by)
    swapped = x is not node.inputs[0]
    if x is None or number is None or number.numel() != 1 or not isinstance(plan.form(x), Root):
        return None
    c, form = number.double(), plan.form(x)
    assert isinstance(form, Root)
    if not float(c) > 0:
        return None
    if node.op_type == "Div" and swapped:
        made = Made(lambda root: c / root, (plan.slot(x),), (Root(),))
    else:
        function = getattr(torch, {"Max": "maximum"}.get(node.op_type, node.op_type.lower()))
        kept = form if node.op_type in ("Add", "Max") else Root()
        made = Made(lambda root: function(root, c), (plan.slot(x),), (kept,))
    return _landed(plan, made, target)


def divided(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`rhe(a · M)`, M of `scale_a / (root · scale_y)`, or of `root · scale_a / scale_y` where it is multiplied.

    By 0: the end on a's side, or 0. Where no quantizer follows, what is divided by its own norm has 20 bits behind the
    point, and lies between -1 and 1.
    """
    a, b = node.inputs
    if node.op_type == "Mul" and isinstance(plan.form(a), Root):
        a, b = b, a
    root, given = plan.form(b), Wide.of(plan, a)
    assert isinstance(root, Root)
    assert b is not None
    if given.bound > 2**31:
        raise NotIntegerError("what it gives may leave 64 bits")
    share = node.op_type == "Div" and root.norm_of is a
    if target is None and not share:
        raise NotIntegerError("no quantizer behind it, and it may be infinite")
    one = 1 << _SHARE_BITS
    ratio = given.scale * one if target is None else given.scale / target.grid.scale

    def run(x: Tensor, root: Tensor) -> Tensor:
        values = (ratio * root if node.op_type == "Mul" else ratio / root).nan_to_num(nan=0.0).clamp(max=2.0**30)
        y = Factors.of(values, plan.arithmetic).times(given.take(x))
        # A norm below the steps its squares were rounded to is 0, or too small.
        return y.clamp(-one, one) if target is None else target.clamp(y + target.grid.zero_point)

    inner = Accumulator(torch.tensor(1 / one, dtype=torch.float64), bound=float(one), inner=True)
    return Made(run, (given.slot, plan.slot(b)), (inner if target is None else target.grid,))


def _as_table(plan: Plan, node: ir.Node, target: Target | None) -> Made | None:
    """Where no quantizer follows, the table of a function of one quantized value."""
    return None if target is not None else _pointwise.inner_table(plan, node)


def _landed(plan: Plan, made: Made, target: Target | None) -> Made:
    """What `made` gives, on the grid of `target`."""
    if target is None:
        return made
    onto = regrid(Root(), target, plan.arithmetic)
    return Made(lambda *given: onto(cast("Tensor", made.run(*given))), made.inputs, (target.grid,), made.accumulators)

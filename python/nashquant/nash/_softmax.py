"""Softmax and its logarithms: exact sums of a table of exp, and one factor or logarithm for each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant import ops

from ._arguments import axes_of
from ._elementwise import needed
from ._fixed_point import Factors
from ._forms import NotIntegerError, Target
from ._logarithm import logarithm
from ._rescale import factor_onto
from ._scores import Scores
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["log_softmax", "log_sum_exp", "of_axis", "softmax"]

_EXP_BITS = 20  # of the table of exp behind the point
_EXP_IS_0 = 15.0  # exp(-15) · 2^20 rounds to 0
_LARGEST_TABLE = 1 << 22
_LOG_BITS = 24  # of a logarithm behind the point: that of a sum below 2^53 has 30 bits


def softmax(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`e = table[max - q]`, where the table holds `rhe(exp(-n · scale) · 2^20)`; then `rhe(e · 1 / (Σe · scale_y))`.

    A mask is added to `q` in its steps, or stands in its place.
    """
    return of_axis(plan, node.inputs[0], _axis(plan, node), target)


def of_axis(plan: Plan, x: ir.Value | None, axis: int, target: Target | None) -> Made:
    """The softmax of `x` along `axis`."""
    target = needed(target)
    scores = Scores.of(plan, x)
    exp, scale = _exponentials(scores), target.grid.scale
    factor_onto(target, 2.0**-_EXP_BITS)  # the largest: of a row whose sum is that of its greatest score

    def run(*given: Tensor) -> Tensor:
        x = scores.run(*given)
        e = exp(x.amax(axis, keepdim=True) - x)
        total = e.sum(axis, keepdim=True)
        factors = Factors.of(1 / (total.double() * scale), plan.arithmetic)
        return target.clamp(factors.times(e) + target.grid.zero_point)

    return Made(run, scores.slots, (target.grid,))


def log_softmax(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`rhe((-n · scale - L) / scale_y)`, where `n = max - q` and `L = ln(Σe)` of 24 bits behind the point."""
    target, axis = needed(target), _axis(plan, node)
    scores = Scores.of(plan, node.inputs[0])
    exp, land = _exponentials(scores), _landing(plan, scores, target)

    def run(*given: Tensor) -> Tensor:
        x = scores.run(*given)
        n = x.amax(axis, keepdim=True) - x
        return land(-n, -_logarithm_of(exp(n).sum(axis, keepdim=True)))

    return Made(run, scores.slots, (target.grid,))


def log_sum_exp(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`rhe((max · scale + L) / scale_y)`, likewise."""
    target = needed(target)
    scores, axes = Scores.of(plan, node.inputs[0]), axes_of(plan, node)
    if axes == ():
        raise NotIntegerError("it reduces nothing")
    keep = bool(attribute(node, "keepdims", 1))
    exp, land = _exponentials(scores), _landing(plan, scores, target)

    def run(*given: Tensor) -> Tensor:
        x = scores.run(*given)
        over = tuple(range(x.dim())) if axes is None else axes
        most = x.amax(over, keepdim=True)
        total = exp(most - x).sum(over, keepdim=keep)
        return land(most.reshape(total.shape), _logarithm_of(total))

    return Made(run, scores.slots, (target.grid,))


def _axis(plan: Plan, node: ir.Node) -> int:
    since13 = plan.opsets.get("", 1) >= 13
    axis = int(str(attribute(node, "axis", -1 if since13 else 1)))
    rank = None if node.inputs[0] is None or node.inputs[0].shape is None else len(node.inputs[0].shape)
    if not since13 and (rank is None or axis % rank != rank - 1):
        raise NotIntegerError("before opset 13 it runs over several axes at once")
    return axis


def _exponentials(scores: Scores) -> Callable[[Tensor], Tensor]:
    """`rhe(exp(-n · scale) · 2^20)` for `n` steps below the largest, from a table."""
    last = math.ceil(_EXP_IS_0 / scores.scale)
    last = last if scores.span is None else min(last, scores.span)
    if last > _LARGEST_TABLE:
        raise NotIntegerError(f"a table of exp in steps of {scores.scale:g} is too large")
    table = torch.round(torch.exp(-torch.arange(last + 1, dtype=torch.float64) * scores.scale) * 2**_EXP_BITS).long()
    return lambda n: table[n.clamp(max=last)]


def _logarithm_of(total: Tensor) -> Tensor:
    """`ln` of a sum of exponentials, in steps of 2^-24."""
    y: Tensor = logarithm(total, _LOG_BITS) - round(math.log(2) * _EXP_BITS * 2**_LOG_BITS)
    return y


def _landing(plan: Plan, scores: Scores, target: Target) -> Callable[[Tensor, Tensor], Tensor]:
    """`rhe((q · scale + L) / scale_y)`: both on one shift, rounded once."""
    if scores.span is None:
        raise NotIntegerError("its scores are masked")
    of_q, of_log = scores.scale / target.grid.scale, 2.0**-_LOG_BITS / target.grid.scale
    shift = min(44 - math.frexp(of_q)[1], 30 - math.frexp(of_log)[1], 62)  # 17 bits of q and 31 of L: below 2^62
    if shift < 0:
        raise NotIntegerError(f"steps of {scores.scale:g} are too many of {target.grid.scale:g}")
    by_q, by_log = (round(math.ldexp(factor, shift)) for factor in (of_q, of_log))

    def land(q: Tensor, logarithm: Tensor) -> Tensor:
        total = q * by_q + logarithm * by_log
        return target.clamp(ops.shifted(total, shift, plan.arithmetic.rounding) + target.grid.zero_point)

    return land

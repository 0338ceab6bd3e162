"""An op in f64, beside it what floats make of it at most.

The bounds are those of Higham, "Accuracy and Stability of Numerical Algorithms", 2002, chapters 2 and 3, to first
order: a sum of n products, in any order, errs by γₙ · Σ|a · b| at most, where γₙ = n·u / (1 - n·u) and u is half the
distance from 1 to the next float (2⁻²⁴ in f32); what came in with an error goes out with it times the derivative.
Functions that a library computes are taken to be right to 8 u, and an op without a rule to 16 u of its largest value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ._float_errors import MOVES, RULES, pointwise, unknown
from ._near import Call, Near, error_of, is_near, size, value_of


def apply(op: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], u: float) -> Any:
    """What `op` gives, with a `Near` for each tensor of floats.

    Args:
        op: an ATen operator, or a function of Python on what is no tensor.
        args: its arguments, with a `Near` for each tensor of floats.
        kwargs: likewise.
        u: half the distance from 1 to the next number in the floats whose error is asked for.
    """
    if not isinstance(op, torch._ops.OpOverload):  # of Python: an item, arithmetic of sizes
        return op(*args, **kwargs)
    wide = tuple(
        Near(torch.tensor(x, dtype=torch.float64), torch.tensor(abs(x) * u, dtype=torch.float64))
        if isinstance(x, float) and isinstance(known.type, torch.TensorType)
        else x
        for x, known in zip(args, op._schema.arguments, strict=False)
    )
    args, kwargs = pytree.tree_map(_wider, (wide, dict(kwargs)), is_leaf=is_near)
    call = Call(op, args, kwargs, u)
    value = pytree.tree_map(_double, call(value_of))
    if not any(isinstance(y, Tensor) and y.is_floating_point() for y in pytree.tree_leaves(value)):
        return value
    error = _error(call, value)
    return pytree.tree_map(
        lambda y, e: Near(y, e) if isinstance(y, Tensor) and y.is_floating_point() else y, value, error
    )


def _error(call: Call, y: Any) -> Any:
    """A bound for each tensor of floats in `y`."""
    leaves = pytree.tree_leaves((call.args, dict(call.kwargs)), is_leaf=is_near)
    if not any(map(is_near, leaves)):  # a constant, rounded to a float
        return pytree.tree_map(lambda each: size(each) * call.u if isinstance(each, Tensor) else each, y)
    name = call.name
    if name in MOVES or call.op.is_view:
        if "pad" in name:  # of the number that is filled in, what a float loses of it
            call = replace(call, args=tuple(abs(x) * call.u if isinstance(x, float) else x for x in call.args))
        return pytree.tree_map(lambda e: e.abs() if isinstance(e, Tensor) else e, call(error_of))
    if name in RULES:
        return RULES[name](call, y)
    if torch.Tag.pointwise in call.op.tags:
        return pointwise(call, y)
    return pytree.tree_map(lambda each: unknown(each, call.u) if isinstance(each, Tensor) else each, y)


def _wider(x: Any) -> Any:
    return torch.float64 if isinstance(x, torch.dtype) and x.is_floating_point else x


def _double(y: Any) -> Any:
    return y.double() if isinstance(y, Tensor) and y.is_floating_point() else y

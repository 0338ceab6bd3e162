"""Sums and products that no quantizer rounds, on the way to one that does: exact, in 64 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ._fixed_point import Factors
from ._forms import Accumulator, NotIntegerError, Plain, Target
from ._rescale import factor_onto, land
from ._step import Made

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["Wide", "add", "mul", "product", "within"]

_BITS = 29  # of each term of a sum, before a sign


@dataclass(frozen=True, eq=False)
class Wide:
    """Integers with one scale, in 64 bits: of a grid, with its zero point taken off, or an accumulator.

    Attributes:
        slot: where they lie.
        scale: of one step.
        bound: none is greater in magnitude.
        take: makes int64 of what lies there.
    """

    slot: str
    scale: float
    bound: float
    take: Callable[[Tensor], Tensor]

    @classmethod
    def of(cls, plan: Plan, value: ir.Value | None) -> Wide:
        """Those of `value`.

        Raises:
            NotIntegerError: it has none, or a scale for each channel; a constant on no grid has fractions.
        """
        form = plan.form(value)
        if isinstance(form, Accumulator) and form.scale.dim() == 0:
            assert value is not None
            return cls(plan.slot(value), float(form.scale), form.bound, torch.Tensor.long)
        constant = plan.constant(value)
        if constant is not None and isinstance(form, Plain):
            return cls._whole(plan, value, constant)
        slot, grid = plan.grid(value)
        return cls(slot, grid.scale, grid.largest, lambda q: q.long() - grid.zero_point)

    @classmethod
    def _whole(cls, plan: Plan, value: ir.Value | None, constant: Tensor) -> Wide:
        real = constant.double()
        if not bool((real == real.round()).all()) or not (bound := float(real.abs().max())) < 2**15:
            raise NotIntegerError(f"its input {'' if value is None else value.name!r} is a constant on no grid")
        return cls(plan.hold(f"{value.name} in whole numbers", real.long()), 1.0, bound, torch.Tensor.long)  # type: ignore[union-attr]


def add(plan: Plan, node: ir.Node, sign: int) -> Made:
    """`a ± b` of two grids, each rounded to numbers of 30 bits first."""
    if not plan.is_inner(node):
        raise NotIntegerError("no quantizer behind it")
    a, b = (Wide.of(plan, value) for value in node.inputs)
    scale = torch.tensor(max(a.scale * a.bound, b.scale * b.bound), dtype=torch.float64) * 2.0**-_BITS
    of_a, of_b = (Factors.of(each.scale / scale, plan.arithmetic) for each in (a, b))
    form = _inner(float(scale), 2.0 ** (_BITS + 1))

    def total(x: Tensor, y: Tensor) -> Tensor:
        return of_a.times(a.take(x)) + sign * of_b.times(b.take(y))

    return Made(total, (a.slot, b.slot), (form,))


def mul(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`a · b` of grids or accumulators."""
    a, b = node.inputs
    return product(plan, a, b, target)


def product(plan: Plan, left: ir.Value | None, right: ir.Value | None, target: Target | None) -> Made:
    """`left · right`, likewise."""
    a, b = (Wide.of(plan, value) for value in (left, right))
    form = _inner(a.scale * b.scale, a.bound * b.bound)

    def exact(x: Tensor, y: Tensor) -> Tensor:
        return a.take(x) * b.take(y)

    if target is None:
        return Made(exact, (a.slot, b.slot), (form,))

    factor = factor_onto(target, form.scale)

    def run(x: Tensor, y: Tensor) -> Tensor:
        return land(exact(x, y), factor, None, target, plan.arithmetic)

    return Made(run, (a.slot, b.slot), (target.grid,))


def within(bound: float) -> float:
    """`bound`, if 64 bits hold it.

    Raises:
        NotIntegerError: they may not.
    """
    if not bound < 2**62:
        raise NotIntegerError("what it gives may leave 64 bits")
    return bound


def _inner(scale: float, bound: float) -> Accumulator:
    return Accumulator(torch.tensor(scale, dtype=torch.float64), bound=within(bound), inner=True)

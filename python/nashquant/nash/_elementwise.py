"""Arithmetic between two quantized tensors: one rounding, one saturation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from nashquant import ops

from . import _inner, _roots
from ._fixed_point import Factors, on_common_shift
from ._forms import Accumulator, Grid, NotIntegerError, Plain, Root, Target
from ._joins import operand
from ._rescale import factor_onto, land, regrid
from ._step import Made

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["COMPARISONS", "add", "brought", "compare", "div", "maximum", "minimum", "mul", "sub", "where"]


def add(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`a + b`: of two grids at once, or onto an accumulator."""
    return _sum(plan, node, target, 1)


def sub(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`a - b`, likewise."""
    return _sum(plan, node, target, -1)


def _sum(plan: Plan, node: ir.Node, target: Target | None, sign: int) -> Made:
    a, b = node.inputs
    forms = plan.form(a), plan.form(b)
    if sign > 0 and (made := _roots.on_root(plan, node, target)) is not None:
        return made
    if any(isinstance(form, Accumulator) for form in forms):
        return _onto_accumulator(plan, node, target, sign)
    if target is None:
        return _inner.add(plan, node, sign)
    (slot_a, grid_a), (slot_b, grid_b) = plan.grid(a), plan.grid(b)
    grid, kernel = target.grid, ops.add_saturating if sign > 0 else ops.sub_saturating
    if any(each.zero_point and each.dtype == torch.int16 for each in (grid, grid_a, grid_b)):
        return _wide_sum(plan, target, (slot_a, grid_a), (slot_b, grid_b), sign)
    # A zero point is added after rounding: in 16 bits, where 8 saturate only in the end.
    dtype = torch.int16 if grid.zero_point else grid.dtype
    wide = torch.int8 if _is_int8(grid_a) and _is_int8(grid_b) else torch.int16
    factors = tuple(float(factor_onto(target, each.scale)) for each in (grid_a, grid_b))

    def run(x: Tensor, y: Tensor) -> Tensor:
        x, y = broadcast(grid_a.centered(x).to(wide), grid_b.centered(y).to(wide))
        return finish(kernel(x, y, *factors, dtype=dtype, arithmetic=plan.arithmetic), target)

    return Made(run, (slot_a, slot_b), (grid,))


def _wide_sum(plan: Plan, target: Target, a: tuple[str, Grid], b: tuple[str, Grid], sign: int) -> Made:
    """The same sum in 64 bits: 16 bits and a zero point are more than 16."""
    (slot_a, grid_a), (slot_b, grid_b) = a, b
    multipliers, shift = on_common_shift(*(float(factor_onto(target, grid.scale)) for grid in (grid_a, grid_b)))

    def run(x: Tensor, y: Tensor) -> Tensor:
        total = (x.long() - grid_a.zero_point) * multipliers[0] + sign * (y.long() - grid_b.zero_point) * multipliers[1]
        return target.clamp(ops.shifted(total, shift, plan.arithmetic.rounding) + target.grid.zero_point)

    return Made(run, (slot_a, slot_b), (target.grid,))


def _onto_accumulator(plan: Plan, node: ir.Node, target: Target | None, sign: int) -> Made:
    """The other operand is brought to the steps of the accumulator, rounded there, and added exactly."""
    a, b = node.inputs
    assert a is not None
    assert b is not None
    first = isinstance(plan.form(a), Accumulator)
    of_acc, of_other = (1, sign) if first else (sign, 1)
    acc_value, other = (a, b) if first else (b, a)
    form = plan.form(acc_value)
    assert isinstance(form, Accumulator)
    if form.scale.dim() and _has_more_axes(other, acc_value):
        raise NotIntegerError(f"its input {other.name!r} has more axes than the accumulator")
    slots: tuple[str, ...] = (plan.slot(acc_value),)
    bring, bound, other_slot = brought(plan, other, form)
    total = replace(form, bound=form.bound + bound)

    def accumulate(acc: Tensor, *others: Tensor) -> Tensor:
        acc, more = acc.to(total.dtype), bring(acc, *others).to(total.dtype)
        return acc + more if of_acc == of_other else (acc - more) * of_acc

    slots += other_slot
    counted = None if form.inner else accumulate
    if target is None:
        return Made(accumulate, slots, (total,), counted)
    factor = factor_onto(target, form.scale)

    def run(acc: Tensor, *others: Tensor) -> Tensor:
        return land(accumulate(acc, *others), factor, form.axis, target, plan.arithmetic)

    return Made(run, slots, (target.grid,), counted)


def _has_more_axes(value: ir.Value, than: ir.Value) -> bool:
    return value.shape is not None and than.shape is not None and len(value.shape) > len(than.shape)


def brought(
    plan: Plan, other: ir.Value, form: Accumulator, by: float = 1.0
) -> tuple[Callable[..., Tensor], float, tuple[str, ...]]:
    """What gives `by · other` in steps of the accumulator `form`, rounded once; how large that gets; its slot.

    Raises:
        NotIntegerError: it is not quantized, or 64 bits may not hold it in these steps.
    """
    constant = plan.constant(other)
    if constant is not None:
        real = constant.double() * by
        bound = _inner.within(float((real.abs().max() / form.scale).max()) + 1)

        def steps(acc: Tensor) -> Tensor:
            return torch.round(real / form.along(acc))

        return steps, bound, ()
    theirs = plan.form(other)
    if isinstance(theirs, Grid):
        grid = theirs
        ratio = _within(other, grid.scale * by / form.scale)
        factors = Factors.of(ratio, plan.arithmetic)

        def short(acc: Tensor, q: Tensor) -> Tensor:
            return factors.along(form.axis, acc).times(grid.centered(q))

        return short, grid.largest * float(ratio.abs().max()) * (1 + 2.0**-14) + 1, (plan.slot(other),)
    if not isinstance(theirs, Accumulator):
        raise NotIntegerError(f"its input {other.name!r} is not quantized")
    accumulator = theirs
    shift = max(0, math.frexp(_inner.within(accumulator.bound))[1] - 31)  # a factor has 31 bits too
    most = float(_within(other, math.ldexp(by, shift) * accumulator.scale.max() / form.scale).abs().max())

    def wide(acc: Tensor, x: Tensor) -> Tensor:
        ratio = math.ldexp(by, shift) * accumulator.along(x) / form.along(acc)
        x = ops.shifted(x, shift, plan.arithmetic.rounding) if shift else x
        return Factors.of(ratio, plan.arithmetic).times(x)

    bound = most * (math.ldexp(accumulator.bound, -shift) + 1) * (1 + 2.0**-14) + 1
    return wide, _inner.within(bound), (plan.slot(other),)


def _within(other: ir.Value, ratio: Tensor) -> Tensor:
    if not bool((ratio.abs() < 2.0**31).all()):
        raise NotIntegerError(f"a step of its input {other.name!r} is 2**31 steps of the accumulator, or more")
    return ratio


def mul(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`a · b`, exact and rounded once. By a positive number alone, only the scale changes."""
    if (made := _of_roots(plan, node, target)) is not None:
        return made
    by_constant = any(plan.constant(value) is not None for value in node.inputs)
    if target is None:
        only_scale = _has_number(plan, node) or not plan.is_inner(node)
        return _scaled(plan, node) if only_scale else _inner.mul(plan, node, None)
    if any(isinstance(plan.form(value), Accumulator) for value in node.inputs):
        return _landed(plan, _scaled(plan, node), target) if by_constant else _inner.mul(plan, node, target)
    if (made := _by_constants(plan, node, target)) is not None:
        return made
    (slot_a, grid_a), (slot_b, grid_b) = plan.grid(node.inputs[0]), plan.grid(node.inputs[1])
    factor = factor_onto(target, grid_a.scale * grid_b.scale)
    wide = torch.int32 if grid_a.largest * grid_b.largest < 2**31 else torch.int64

    def product(x: Tensor, y: Tensor) -> Tensor:
        return (x.to(wide) - grid_a.zero_point) * (y.to(wide) - grid_b.zero_point)

    plain = not (grid_a.zero_point or grid_b.zero_point or target.grid.zero_point) and grid_a.dtype == grid_b.dtype
    grid = target.grid

    def run(x: Tensor, y: Tensor) -> Tensor:
        if plain:
            x, y = broadcast(x, y)
            made = ops.mul_saturating(x, y, float(factor), dtype=grid.dtype, arithmetic=plan.arithmetic)
            return finish(made, target)
        return land(product(x, y), factor, None, target, plan.arithmetic)

    return Made(run, (slot_a, slot_b), (grid,))


def _of_roots(plan: Plan, node: ir.Node, target: Target | None) -> Made | None:
    """A product with a root, or what is divided by one; None if there is none."""
    made = _roots.on_root(plan, node, target)
    if made is not None or not any(isinstance(plan.form(value), Root) for value in node.inputs):
        return made
    return _roots.divided(plan, node, target)


def _has_number(plan: Plan, node: ir.Node) -> bool:
    return any((c := plan.constant(value)) is not None and c.numel() == 1 for value in node.inputs)


def _by_constants(plan: Plan, node: ir.Node, target: Target) -> Made | None:
    """`rhe(a · M)`, M of `c · scale_a / scale_y` for each element of constants on no grid; None if there are none."""
    a, b = node.inputs
    if plan.constant(a) is not None:
        a, b = b, a
    constant = plan.constant(b)
    if constant is None or not isinstance(plan.form(b), Plain):
        return None
    slot, grid = plan.grid(a)
    values = constant.double() * grid.scale / target.grid.scale
    if not bool((values.abs() < 2.0**31).all()):
        raise NotIntegerError("its constants are too large, or NaN")
    factors = Factors.of(values, plan.arithmetic)

    def run(q: Tensor) -> Tensor:
        return target.clamp(factors.times(q.long() - grid.zero_point) + target.grid.zero_point)

    return Made(run, (slot,), (target.grid,))


def _scaled(plan: Plan, node: ir.Node) -> Made:
    """The same integers on another scale."""
    a, b = node.inputs
    if node.op_type == "Mul" and plan.constant(a) is not None:
        a, b = b, a
    number = plan.constant(b)
    if number is None or number.numel() != 1 or not 0 < float(number) < math.inf:
        raise NotIntegerError("no quantizer behind it")
    if number.dim() > (1 if a is None or a.shape is None else max(len(a.shape), 1)):
        raise NotIntegerError("its constant has more axes than what it multiplies")
    by = float(number) if node.op_type == "Mul" else 1 / float(number)
    form = plan.form(a)
    assert a is not None
    if not isinstance(form, (Grid, Accumulator)):
        raise NotIntegerError(f"its input {a.name!r} is not quantized")
    scaled: Grid | Accumulator = replace(form, scale=form.scale * by)  # type: ignore[arg-type]
    return Made(lambda q: q, (plan.slot(a),), (scaled,))


def _landed(plan: Plan, made: Made, target: Target) -> Made:
    """What `made` gives, on the grid of `target`."""
    (form,) = made.forms
    assert isinstance(form, (Grid, Accumulator))
    onto = regrid(form, target, plan.arithmetic)
    return Made(lambda *given: onto(cast("Tensor", made.run(*given))), made.inputs, (target.grid,))


def div(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`a · (1 / b)`: a table has the factor of each `b`, of 31 bits as all are. By 0: the end on `a`'s side, or 0."""
    if (made := _of_roots(plan, node, target)) is not None:
        return made
    if target is None:
        return _scaled(plan, node)
    if isinstance(plan.form(node.inputs[0]), Accumulator) and plan.constant(node.inputs[1]) is not None:
        return _landed(plan, _scaled(plan, node), target)
    (slot_a, grid_a), (slot_b, grid_b) = plan.grid(node.inputs[0]), plan.grid(node.inputs[1])
    ends = torch.iinfo(grid_b.dtype)
    divisor = torch.arange(ends.min, ends.max + 1, dtype=torch.float64) - grid_b.zero_point
    ratio = grid_a.scale / (grid_b.scale * target.grid.scale)
    by = torch.where(divisor == 0, 0.0, ratio / divisor).clamp(-(2.0**30), 2.0**30)
    factors = Factors.of(by, plan.arithmetic)
    grid, ends_of_y = target.grid, torch.iinfo(target.grid.dtype)

    def run(a: Tensor, b: Tensor) -> Tensor:
        a, index = a.long() - grid_a.zero_point, b.long() - ends.min
        y = factors.at(index).times(a)
        by_zero = a.sign() * (ends_of_y.max - ends_of_y.min)
        y = torch.where(index == grid_b.zero_point - ends.min, by_zero, y)
        return target.clamp(y + grid.zero_point)

    return Made(run, (slot_a, slot_b), (grid,))


def maximum(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The greater, of operands on one grid."""
    if len(node.inputs) == 2 and (made := _roots.on_root(plan, node, target)) is not None:
        return made
    return _joined(plan, node, target, torch.maximum)


def minimum(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The lesser, likewise."""
    return _joined(plan, node, target, torch.minimum)


def _joined(plan: Plan, node: ir.Node, target: Target | None, join: Callable[[Tensor, Tensor], Tensor]) -> Made:
    target = needed(target)
    operands = [operand(plan, value, target) for value in node.inputs]
    slots = tuple(slot for slot, _ in operands)

    def run(*given: Tensor) -> Tensor:
        y = operands[0][1](given[0])
        for x, (_, onto) in zip(given[1:], operands[1:], strict=True):
            y = join(y, onto(x))
        return target.clamp(y)

    return Made(run, slots, (target.grid,))


def where(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """One or the other, both on one grid."""
    target = needed(target)
    condition, *rest = node.inputs
    first = plan.plain(condition)
    (slot_a, onto_a), (slot_b, onto_b) = (operand(plan, value, target) for value in rest)

    def run(chosen: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return target.clamp(torch.where(chosen, onto_a(a), onto_b(b)))

    return Made(run, (first, slot_a, slot_b), (target.grid,))


COMPARISONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
}


def compare(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Which is greater: integers of one grid by themselves, of two by `(q - zero_point) · scale`, exact in f64."""
    comparison = COMPARISONS[node.op_type]
    sides: list[tuple[str, Grid | None]] = []
    for value in node.inputs:
        assert value is not None
        constant = plan.constant(value)
        if constant is not None and constant.is_floating_point():
            sides.append((plan.plain(value), None))
        else:
            sides.append(plan.grid(value))
    (slot_a, grid_a), (slot_b, grid_b) = sides
    if grid_a is None and grid_b is None:
        raise NotIntegerError("it compares constants")
    same = grid_a is not None and grid_b is not None and grid_a.same_as(grid_b)

    def run(a: Tensor, b: Tensor) -> Tensor:
        return comparison(a, b) if same else comparison(_exact(a, grid_a), _exact(b, grid_b))

    return Made(run, (slot_a, slot_b), (Plain(),))


def _exact(x: Tensor, grid: Grid | None) -> Tensor:
    return x.double() if grid is None else (x.double() - grid.zero_point) * grid.scale


def needed(target: Target | None) -> Target:
    """`target`.

    Raises:
        NotIntegerError: there is none.
    """
    if target is None:
        raise NotIntegerError("no quantizer behind it")
    return target


def finish(y: Tensor, target: Target) -> Tensor:
    """The zero point added, and the ends of the target."""
    if target == Target(target.grid, torch.iinfo(y.dtype).min, torch.iinfo(y.dtype).max) and not target.grid.zero_point:
        return y
    return target.clamp(y.to(torch.int32) + target.grid.zero_point if target.grid.zero_point else y)


def broadcast(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the shape they have together."""
    if x.shape == y.shape:
        return x, y
    shape = torch.broadcast_shapes(x.shape, y.shape)  # type: ignore[no-untyped-call]
    return x.expand(shape), y.expand(shape)


def _is_int8(grid: Grid) -> bool:
    return grid.dtype == torch.int8 and grid.zero_point == 0

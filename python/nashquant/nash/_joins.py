"""Several tensors put on one grid, then joined without further arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ._arguments import arguments
from ._forms import Accumulator, Grid, NotIntegerError, Target, Weight
from ._rescale import regrid
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["concat", "constant_on_grid", "operand", "pad", "scatter_elements", "scatter_nd"]

Onto = Callable[[Tensor], Tensor]


def operand(plan: Plan, value: ir.Value | None, target: Target) -> tuple[str, Onto]:
    """The slot of an operand, and what puts it on the grid of `target`; a constant is there at once."""
    constant = plan.constant(value)
    assert value is not None
    if constant is not None:
        form = plan.form(value)
        real = form.real() if isinstance(form, Weight) else constant.double()
        return plan.hold(f"{value.name} on {target.grid!r}", constant_on_grid(real, target.grid)), lambda x: x
    form = plan.form(value)
    if not isinstance(form, (Grid, Accumulator)):
        raise NotIntegerError(f"its input {value.name!r} is not quantized")
    return plan.slot(value), regrid(form, Target.whole(target.grid), plan.arithmetic)


def constant_on_grid(real: Tensor, grid: Grid) -> Tensor:
    """`saturate(round_half_even(real / scale) + zero_point)` in f64."""
    steps = torch.round(real.double() / grid.scale) + grid.zero_point
    return torch.nan_to_num(steps, nan=grid.low).clamp(grid.low, grid.high).to(grid.dtype)


def common(plan: Plan, values: list[ir.Value | None], target: Target | None) -> Target:
    """The target; without one, the grid that all operands share.

    Raises:
        NotIntegerError: they share none.
    """
    if target is not None:
        return target
    grids = [plan.grid(value)[1] for value in values if plan.constant(value) is None]
    if not grids or any(not grid.same_as(grids[0]) for grid in grids[1:]):
        raise NotIntegerError("no quantizer behind it, and its inputs lie on different grids")
    return Target.whole(grids[0])


def concat(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Inputs requantized to one grid, then put side by side."""
    target = common(plan, list(node.inputs), target)
    operands = [operand(plan, value, target) for value in node.inputs]
    axis = int(str(attribute(node, "axis", 0)))

    def run(*given: Tensor) -> Tensor:
        return target.clamp(torch.cat([onto(x) for x, (_, onto) in zip(given, operands, strict=True)], axis))

    return Made(run, tuple(slot for slot, _ in operands), (target.grid,))


_MODES = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


def pad(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Integers with a border: of a constant on the same grid, or of what lies inside."""
    target = common(plan, [node.inputs[0]], target)
    slot, onto = operand(plan, node.inputs[0], target)
    mode = str(attribute(node, "mode", "constant"))
    slots, complete = arguments(plan, node)
    stated = attribute(node, "pads")
    value = (
        plan.constant(node.inputs[2])
        if len(node.inputs) > 2
        else torch.tensor(float(str(attribute(node, "value", 0.0))))
    )
    if value is None and len(node.inputs) > 2 and node.inputs[2] is not None:
        raise NotIntegerError("what it pads with is computed")
    fill = target.grid.on_grid(0.0 if value is None else float(value))

    def run(x: Tensor, *given: Tensor) -> Tensor:
        operands = complete(*given)
        found: Any = stated if stated is not None else operands[0]
        ends = [int(end) for end in found]
        axes = operands[2] if len(operands) > 2 and operands[2] is not None else torch.arange(len(ends) // 2)
        pairs = dict(
            zip((int(a) % x.dim() for a in axes), zip(ends, ends[len(ends) // 2 :], strict=False), strict=True)
        )
        x = onto(x)
        for axis, (before, after) in pairs.items():
            x = _pad(x, axis, before, after, mode, fill)
        return target.clamp(x)

    return Made(run, (slot, *slots), (target.grid,))


def _pad(x: Tensor, axis: int, before: int, after: int, mode: str, fill: int) -> Tensor:
    for count, end in ((before, 0), (after, 1)):  # a negative border is cut off
        if count < 0:
            x = x.narrow(axis, -count if end == 0 else 0, x.shape[axis] + count)
    edges = (max(before, 0), max(after, 0))
    if edges == (0, 0):
        return x
    if mode == "constant":
        return F.pad(x, (0, 0) * (x.dim() - 1 - axis) + edges, value=fill)
    size = x.shape[axis]
    index = torch.arange(-edges[0], size + edges[1])
    if mode == "edge":
        index = index.clamp(0, size - 1)
    elif mode == "wrap":
        index = index % size
    else:
        period = max(2 * (size - 1), 1)
        index = index % period
        index = torch.minimum(index, period - index) if size > 1 else index * 0
    return x.index_select(axis, index)


def scatter_elements(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Some elements replaced, all on one grid."""
    target = common(plan, [node.inputs[0], node.inputs[2]], target)
    axis = int(str(attribute(node, "axis", 0)))

    def put(data: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        size = data.shape[axis]
        return data.scatter(axis, torch.where(index < 0, index + size, index).long(), updates)

    return _scatter(plan, node, target, put)


def scatter_nd(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Some slices replaced, all on one grid."""
    target = common(plan, [node.inputs[0], node.inputs[2]], target)

    def put(data: Tensor, index: Tensor, updates: Tensor) -> Tensor:
        return data.index_put(tuple(index.long().unbind(-1)), updates)

    return _scatter(plan, node, target, put)


def _scatter(plan: Plan, node: ir.Node, target: Target, put: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Made:
    if str(attribute(node, "reduction", "none")) != "none":
        raise NotIntegerError("it adds up what it scatters")
    (slot, onto), (updates, onto_updates) = (operand(plan, node.inputs[i], target) for i in (0, 2))
    where = plan.plain(node.inputs[1])

    def run(data: Tensor, index: Tensor, update: Tensor) -> Tensor:
        return target.clamp(put(onto(data).clone(), index, onto_updates(update)))

    return Made(run, (slot, where, updates), (target.grid,))

"""Averages and sums: exact sums of integers; what they are divided by goes into the factor."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant import ops

from ._arguments import axes_of
from ._forms import Accumulator, NotIntegerError, Target
from ._inner import Wide, within
from ._rescale import factor_onto, land
from ._step import Made
from ._to_torch import attribute
from ._windows import Windows, integers

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["average_pool", "count", "cumulative_sum", "global_average_pool", "reduce_mean", "reduce_sum"]


def average_pool(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """A depthwise convolution with ones; beyond the edges lie zeros, which count where the file says so."""
    slot, grid = plan.grid(node.inputs[0])
    target = _needed(target)
    windows = Windows.of(node, integers(node, "kernel_shape", ()))
    ceil = bool(attribute(node, "ceil_mode", 0))
    include = bool(attribute(node, "count_include_pad", 0))
    n = len(windows.kernel)
    if any(dilation != 1 for dilation in windows.dilation) and not include:
        include = not any(any(pair) for pair in windows.padding) and not ceil

    def sums(q: Tensor) -> Tensor:
        room = windows.with_room(q.shape[-n:], ceil)
        ones = torch.ones(q.shape[1], 1, *windows.kernel, dtype=torch.int8)
        return ops.conv(q, ones, room.stride, room.padding, room.dilation, q.shape[1], zero_point_x=grid.zero_point)

    def counts(sizes: torch.Size) -> Tensor:
        """How many elements each window counts."""
        room = windows.with_room(sizes, ceil)
        inside = torch.ones(1, 1, *sizes, dtype=torch.int8)
        if include:  # the padding that the file names counts; what only ceil_mode adds does not
            edges = [edge for pair in reversed(windows.padding) for edge in pair]
            inside = torch.nn.functional.pad(inside, edges, value=1)
            room = Windows(
                room.kernel,
                room.stride,
                room.dilation,
                tuple((0, a - b) for (_, a), (_, b) in zip(room.padding, windows.padding, strict=True)),
            )
        ones = torch.ones(1, 1, *windows.kernel, dtype=torch.int8)
        return ops.conv(inside, ones, room.stride, room.padding, room.dilation)

    scale = torch.tensor(grid.scale, dtype=torch.float64)
    factor_onto(target, scale)  # that of the smallest window

    def run(q: Tensor) -> Tensor:
        acc, counted = sums(q), counts(q.shape[-n:]).clamp(min=1)  # of a window wholly in the padding the sum is 0
        found = sorted(set(counted.flatten().tolist()))
        parts = [land(acc, scale / (m * target.grid.scale), None, target, plan.arithmetic) for m in found]
        y = parts[0]
        for m, part in zip(found[1:], parts[1:], strict=True):
            y = torch.where(counted == m, part, y)
        return y

    return Made(run, (slot,), (target.grid,), sums)


def global_average_pool(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The mean over everything behind the channels."""
    return _reduce(plan, node, target, None, True, mean=True)


def reduce_mean(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The mean over some axes."""
    return _reduce(plan, node, target, axes_of(plan, node), bool(attribute(node, "keepdims", 1)), mean=True)


def reduce_sum(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The sum over some axes."""
    return _reduce(plan, node, target, axes_of(plan, node), bool(attribute(node, "keepdims", 1)), mean=False)


def _reduce(
    plan: Plan, node: ir.Node, target: Target | None, axes: tuple[int, ...] | None, keep: bool, mean: bool
) -> Made:
    """Of a grid; or of what no quantizer rounded in front of it, if the number of elements is known."""
    if axes == ():
        raise NotIntegerError("it reduces nothing")
    form, known = plan.form(node.inputs[0]), count(node, axes)
    if isinstance(form, Accumulator) or (target is None and mean and plan.is_inner(node)):
        if known is None:
            raise NotIntegerError("how many elements it reduces is not known before it runs")
        given = Wide.of(plan, node.inputs[0])
        inner = Accumulator(
            torch.tensor(given.scale, dtype=torch.float64), bound=within(given.bound * known), inner=True
        )
        slot, zero_point, take = given.slot, 0, given.take
    else:
        slot, grid = plan.grid(node.inputs[0])
        bound = math.inf if known is None else float(grid.largest * known)
        inner = Accumulator(torch.tensor(grid.scale, dtype=torch.float64), bound=bound)
        zero_point, take = grid.zero_point, None
        if target is None and mean:
            raise NotIntegerError("no quantizer behind it")

    def over(q: Tensor) -> tuple[int, ...]:
        everywhere = node.op_type == "GlobalAveragePool"
        return tuple(range(2, q.dim())) if everywhere else tuple(range(q.dim())) if axes is None else axes

    def number(q: Tensor) -> int:
        return math.prod(q.shape[axis] for axis in over(q))

    def sums(q: Tensor) -> Tensor:
        q = q if take is None else take(q)
        total = q.sum(over(q), keepdim=keep, dtype=torch.int64)
        return total - number(q) * zero_point if zero_point else total

    if target is None:
        each = replace(inner, scale=inner.scale / known) if mean and known else inner
        return Made(sums, (slot,), (each,), None if inner.inner else sums)

    factor_onto(target, inner.scale)  # that of one element

    def run(q: Tensor) -> Tensor:
        n = number(q) if mean else 1
        return land(sums(q), inner.scale / (max(n, 1) * target.grid.scale), None, target, plan.arithmetic)

    return Made(run, (slot,), (target.grid,), None if inner.inner else sums)


def count(node: ir.Node, axes: tuple[int, ...] | None) -> int | None:
    """How many elements become one, if that is known."""
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    if shape is None:
        return None
    sizes = shape[2:] if node.op_type == "GlobalAveragePool" else shape if axes is None else [shape[i] for i in axes]
    return None if any(not isinstance(size, int) for size in sizes) else math.prod(int(str(size)) for size in sizes)


def cumulative_sum(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Each element's sum with those before it."""
    slot, grid = plan.grid(node.inputs[0])
    target = _needed(target)
    axis = plan.constant(node.inputs[1])
    if axis is None:
        raise NotIntegerError("its axis is computed")
    along, reverse, exclusive = int(axis), attribute(node, "reverse", 0), attribute(node, "exclusive", 0)
    factor = factor_onto(target, grid.scale)

    def sums(q: Tensor) -> Tensor:
        q = q.long() - grid.zero_point
        q = q.flip(along) if reverse else q
        total = q.cumsum(along) - (q if exclusive else 0)
        return total.flip(along) if reverse else total

    def run(q: Tensor) -> Tensor:
        return land(sums(q), factor, None, target, plan.arithmetic)

    return Made(run, (slot,), (target.grid,), sums)


def _needed(target: Target | None) -> Target:
    if target is None:
        raise NotIntegerError("no quantizer behind it")
    return target

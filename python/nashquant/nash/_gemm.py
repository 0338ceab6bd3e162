"""Convolutions and matrix products: exact accumulators, rounded once where a quantizer follows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypedDict, cast

import torch
from torch import Tensor

from nashquant import ops

from ._elementwise import brought
from ._forms import Accumulator, Grid, NotIntegerError, Target, Weight
from ._rescale import factor_onto, land
from ._step import Made
from ._to_torch import attribute
from ._windows import Windows, integers

if TYPE_CHECKING:
    import onnx_ir as ir

    from nashquant.arithmetic import Arithmetic

    from ._plan import Plan

__all__ = ["batch_norm", "conv", "conv_integer", "conv_transpose", "gemm", "matmul", "matmul_integer"]

_MOST_STEPS = 2.0**62  # of a bias: sums of products need no more than 2**61
_FINER = 16  # bits behind the steps of a grid, for a bias that is added to it


def conv(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`acc = Σ x·w + bias`; the bias in steps of the accumulator."""
    slot, grid = plan.grid(node.inputs[0])
    weight = _weight(plan, node.inputs[1], axis=0)
    form = Accumulator(grid.scale * weight.scale, axis=1)
    bias = _bias(plan, node, 2, form.scale, weight.integers.shape[0])
    return _conv(plan, node, slot, grid, weight.integers, form, bias, target)


def _conv(
    plan: Plan,
    node: ir.Node,
    slot: str,
    grid: Grid,
    integers_of_weight: Tensor,
    form: Accumulator,
    bias: Tensor | None,
    target: Target | None,
) -> Made:
    windows = Windows.of(node, integers_of_weight.shape[2:])
    groups = int(str(attribute(node, "group", 1)))
    packed = ops.PackedWeight(integers_of_weight, grid.dtype, groups=groups)
    form = replace(form, bound=packed.bound(grid.dtype, grid.zero_point) + _largest(bias))
    how = (windows.stride, windows.padding, windows.dilation)
    accumulate = ops.Conv(packed, bias, None, None, *how, zero_point_x=grid.zero_point)
    if target is None:
        return Made(accumulate, (slot,), (form,), accumulate)
    (factor, dtype), landing = _factor(form, target), _landing(plan, target)
    run = ops.Conv(packed, bias, factor, dtype, *how, **landing, zero_point_x=grid.zero_point)
    return Made(run, (slot,), (target.grid,), accumulate)


def conv_transpose(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """The transposed convolution: `acc` as of `conv`."""
    slot, grid = plan.grid(node.inputs[0])
    weight = _weight(plan, node.inputs[1], axis=1)
    groups = int(str(attribute(node, "group", 1)))
    w = weight.integers
    scale = weight.scale.repeat(groups) if weight.scale.dim() else weight.scale
    form = Accumulator(grid.scale * scale, axis=1)
    packed = ops.PackedWeight.transposed(w, grid.dtype, groups=groups)
    bias = _bias(plan, node, 2, form.scale, w.shape[1] * groups)
    form = replace(form, bound=packed.bound(grid.dtype, grid.zero_point) + _largest(bias))
    if str(attribute(node, "auto_pad", "NOTSET")) not in ("NOTSET", "VALID") or attribute(node, "output_shape"):
        raise NotIntegerError("its padding follows from the size of its output")
    windows = Windows.of(node, w.shape[2:])
    added = integers(node, "output_padding", (0,) * len(windows.kernel))
    how = (windows.stride, windows.padding, added, windows.dilation)
    accumulate = ops.ConvTranspose(packed, bias, None, None, *how, zero_point_x=grid.zero_point)
    if target is None:
        return Made(accumulate, (slot,), (form,), accumulate)
    (factor, dtype), landing = _factor(form, target), _landing(plan, target)
    run = ops.ConvTranspose(packed, bias, factor, dtype, *how, **landing, zero_point_x=grid.zero_point)
    return Made(run, (slot,), (target.grid,), accumulate)


def gemm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`alpha · A @ B + beta · C`; A and B transposed where asked."""
    alpha, beta = (float(str(attribute(node, name, 1.0))) for name in ("alpha", "beta"))
    trans_a, trans_b = (bool(attribute(node, name, 0)) for name in ("transA", "transB"))
    if alpha <= 0:
        raise NotIntegerError(f"its alpha is {alpha:g}")
    bias = _extra(node, 2)
    if bias is None or beta == 0 or plan.constant(bias) is not None:
        return _product(plan, node, target, trans_a, trans_b, alpha, beta)
    return _plus(plan, _product(plan, node, None, trans_a, trans_b, alpha, 0.0), bias, beta, target)


def _plus(plan: Plan, product: Made, bias: ir.Value, beta: float, target: Target | None) -> Made:
    """A computed bias: brought to the steps of the accumulator, rounded there, and added exactly."""
    (form,) = product.forms
    assert isinstance(form, Accumulator)
    bring, bound, slots = brought(plan, bias, form, beta)
    total, n = replace(form, bound=form.bound + bound), len(product.inputs)

    def accumulate(*given: Tensor) -> Tensor:
        acc = cast("Tensor", product.run(*given[:n]))
        return acc.to(total.dtype) + bring(acc, *given[n:]).to(total.dtype)

    if target is None:
        return Made(accumulate, (*product.inputs, *slots), (total,), accumulate)

    factor = factor_onto(target, form.scale)

    def run(*given: Tensor) -> Tensor:
        return land(accumulate(*given), factor, form.axis, target, plan.arithmetic)

    return Made(run, (*product.inputs, *slots), (target.grid,), accumulate)


def matmul(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """`A @ B`, with a constant B or with two activations."""
    return _product(plan, node, target, False, False, 1.0, 1.0)


def _product(
    plan: Plan, node: ir.Node, target: Target | None, trans_a: bool, trans_b: bool, alpha: float, beta: float
) -> Made:
    other = plan.form(node.inputs[1])
    if isinstance(other, Weight) and other.integers.dim() == 2:
        return _linear(plan, node, target, trans_a, trans_b, alpha, beta)
    slots, grids = zip(*(plan.grid(value) for value in node.inputs[:2]), strict=True)
    zero_points = {"zero_point_a": grids[0].zero_point, "zero_point_b": grids[1].zero_point}
    form = Accumulator(grids[0].scale * torch.tensor(grids[1].scale, dtype=torch.float64) * alpha, axis=-1)
    bias = _bias(plan, node, 2, form.scale, None, beta)
    form = replace(form, bound=_bound(node, trans_a, *grids) + _largest(bias))

    def accumulate(a: Tensor, b: Tensor) -> Tensor:
        a, b = a.mT if trans_a else a, b.mT if trans_b else b
        vector = b.dim() == 1
        acc = ops.matmul(a, b.unsqueeze(1) if vector else b, **zero_points)
        acc = acc.squeeze(-1) if vector else acc
        return acc if bias is None else acc.to(form.dtype) + bias.to(form.dtype)

    if target is None:
        return Made(accumulate, slots, (form,), accumulate)
    (factor, dtype), landing = _factor(form, target), _landing(plan, target)

    def run(a: Tensor, b: Tensor) -> Tensor:
        if b.dim() == 1:
            return land(accumulate(a, b), torch.as_tensor(factor), -1, target, plan.arithmetic)
        a, b = a.mT if trans_a else a, b.mT if trans_b else b
        return ops.matmul_requantize(a, b, bias, factor, dtype, **landing, **zero_points)

    return Made(run, slots, (target.grid,), accumulate)


def _linear(
    plan: Plan, node: ir.Node, target: Target | None, trans_a: bool, trans_b: bool, alpha: float, beta: float
) -> Made:
    """With a constant B of two dimensions."""
    slot, grid = plan.grid(node.inputs[0])
    weight = _weight(plan, node.inputs[1], axis=0 if trans_b else 1)
    rows = weight.integers if trans_b else weight.integers.T.contiguous()
    packed = ops.PackedWeight(rows, grid.dtype)
    form = Accumulator(grid.scale * weight.scale * alpha, axis=-1)
    bias = _bias(plan, node, 2, form.scale, rows.shape[0], beta)
    form = replace(form, bound=packed.bound(grid.dtype, grid.zero_point) + _largest(bias))

    def of_rows(linear: ops.Linear) -> Callable[[Tensor], Tensor]:
        return (lambda a: linear(a.mT)) if trans_a else linear

    accumulate = of_rows(ops.Linear(packed, bias, zero_point_x=grid.zero_point))
    if target is None:
        return Made(accumulate, (slot,), (form,), accumulate)
    (factor, dtype), landing = _factor(form, target), _landing(plan, target)
    run = of_rows(ops.Linear(packed, bias, factor, dtype, **landing, zero_point_x=grid.zero_point))
    return Made(run, (slot,), (target.grid,), accumulate)


def _bound(node: ir.Node, trans_a: bool, *grids: Grid) -> float:
    """What no sum of products is beyond, if their number is known."""
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    depth = None if shape is None else shape[-2 if trans_a and len(shape) > 1 else -1]
    return math.prod(grid.largest for grid in grids) * depth if isinstance(depth, int) else math.inf


def conv_integer(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """ConvInteger: integers in, the accumulator out."""
    slot, grid = plan.stored(node.inputs[0], _extra(node, 2))
    form, weight = Accumulator(torch.tensor(1.0, dtype=torch.float64)), plan.constant(node.inputs[1])
    zero = plan.constant(_extra(node, 3))
    if weight is None:
        raise NotIntegerError("its weight is computed")
    centered = weight.short() - (0 if zero is None else zero.short().reshape(-1, *[1] * (weight.dim() - 1)))
    return _conv(plan, node, slot, grid, centered, form, None, target)


def matmul_integer(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """MatMulInteger: integers in, the accumulator out."""
    slot_a, grid_a = plan.stored(node.inputs[0], _extra(node, 2))
    slot_b, grid_b = plan.stored(node.inputs[1], _extra(node, 3))
    form = Accumulator(torch.tensor(1.0, dtype=torch.float64), bound=_bound(node, False, grid_a, grid_b))

    def accumulate(a: Tensor, b: Tensor) -> Tensor:
        return ops.matmul(a, b, zero_point_a=grid_a.zero_point, zero_point_b=grid_b.zero_point)

    return Made(accumulate, (slot_a, slot_b), (form,), accumulate)


def batch_norm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """A gain and an offset for each channel: a new scale of the accumulator, and a bias. A negative gain turns it."""
    x = node.inputs[0]
    form = plan.form(x)
    assert x is not None
    gamma, beta, mean, variance = (plan.constant(value) for value in node.inputs[1:5])
    if gamma is None or beta is None or mean is None or variance is None or not isinstance(form, (Grid, Accumulator)):
        raise NotIntegerError("its input is not quantized, or it is in training mode")
    epsilon = float(str(attribute(node, "epsilon", 1e-5)))
    gain = gamma.double() / (variance.double() + epsilon).sqrt()
    zero_point, bits = (form.zero_point, _FINER) if isinstance(form, Grid) else (0, 0)
    steps = torch.as_tensor(form.scale, dtype=torch.float64) * 2.0**-bits
    scale = torch.where(gain == 0, steps, steps * gain.abs())
    sign = gain.sign().long()
    bias = _steps(f"the bias of {x.name!r}", (beta.double() - mean.double() * gain) / scale)
    result = Accumulator(scale, axis=1)

    def accumulate(q: Tensor) -> Tensor:
        shape = [-1, *[1] * (q.dim() - 2)]
        return ((q.long() - zero_point) << bits) * sign.reshape(shape) + bias.reshape(shape)

    if target is None:
        return Made(accumulate, (plan.slot(x),), (result,), accumulate)
    factor = factor_onto(target, scale)

    def run(q: Tensor) -> Tensor:
        return land(accumulate(q), factor, 1, target, plan.arithmetic)

    return Made(run, (plan.slot(x),), (target.grid,), accumulate)


def _weight(plan: Plan, value: ir.Value | None, axis: int) -> Weight:
    weight = plan.form(value)
    assert value is not None
    if not isinstance(weight, Weight):
        raise NotIntegerError(f"its weight {value.name!r} is no constant of quantized integers")
    if weight.axis is not None and weight.axis != axis:
        raise NotIntegerError(f"its weight {value.name!r} has a scale for each index of axis {weight.axis}, not {axis}")
    if weight.integers.dtype not in (torch.int8, torch.int16):
        raise NotIntegerError(f"its weight {value.name!r} has more than 16 bits")
    return weight


def _bias(plan: Plan, node: ir.Node, index: int, scale: Tensor, width: int | None, beta: float = 1.0) -> Tensor | None:
    """The bias in steps of the accumulator, int64 `[width]`: stored ones as they are, others rounded once."""
    value = _extra(node, index)
    if value is None or beta == 0:
        return None
    form = plan.form(value)
    if isinstance(form, Weight) and form.integers.dim() == 1 and beta == 1.0:
        ratio = form.scale / scale
        if bool(((ratio - 1).abs() < 2.0**-21).all()):
            return form.integers.long()
    real = plan.constant(value)
    if real is None:
        raise NotIntegerError(f"its bias {value.name!r} is computed")
    real = form.real() if isinstance(form, Weight) else real.double()
    if any(size != 1 for size in real.shape[:-1]) or (width is None and real.numel() == 1):
        raise NotIntegerError(f"its bias {value.name!r} has shape {list(real.shape)}")
    real = real.reshape(-1)
    real = real.expand(width) if width is not None and real.numel() == 1 else real
    return _steps(f"its bias {value.name!r}", real * beta / scale)


def _steps(name: str, real: Tensor) -> Tensor:
    steps = torch.round(real)
    if not bool((steps.abs() <= _MOST_STEPS).all()):  # NaN too
        raise NotIntegerError(f"{name} has more than 2**62 steps of the accumulator")
    return steps.long()


def _factor(form: Accumulator, target: Target) -> tuple[float | Tensor, torch.dtype]:
    """To the integers of the target, and their dtype."""
    factor = factor_onto(target, form.scale)
    return (float(factor) if factor.dim() == 0 else factor), target.grid.dtype


class _Landing(TypedDict):
    zero_point: int
    qmin: int
    qmax: int
    arithmetic: Arithmetic


def _landing(plan: Plan, target: Target) -> _Landing:
    return {
        "zero_point": target.grid.zero_point,
        "qmin": target.low,
        "qmax": target.high,
        "arithmetic": plan.arithmetic,
    }


def _largest(bias: Tensor | None) -> int:
    return 0 if bias is None or not bias.numel() else int(bias.abs().max())


def _extra(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None

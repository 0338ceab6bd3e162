"""The norms: exact sums of integers, and one factor of 31 bits for each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant import ops

from ._elementwise import needed
from ._fixed_point import Factors
from ._forms import NotIntegerError, Target
from ._rescale import factor_onto
from ._step import Made
from ._to_torch import attribute

if TYPE_CHECKING:
    import onnx_ir as ir

    from ._plan import Plan

__all__ = ["group_norm", "instance_norm", "layer_norm", "norm", "rms_norm", "sizes_of"]

_NORM_BITS = 20  # of a normalized value behind the point
_LARGEST_SHIFT = 46  # leaves room for a bias of 16 bits in front of it


def layer_norm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Over the last axes; a gain and a bias for each of their elements."""
    axis = int(str(attribute(node, "axis", -1)))
    sizes = sizes_of(node.inputs[0])
    over = tuple(range(axis % len(sizes) - len(sizes), 0))
    return norm(
        plan, node.inputs[0], target, sizes, over, _constants(plan, node, 1, 2, None), _epsilon(node), centered=True
    )


def rms_norm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """As `layer_norm`, around 0 and not around the mean."""
    axis = int(str(attribute(node, "axis", -1)))
    sizes = sizes_of(node.inputs[0])
    over = tuple(range(axis % len(sizes) - len(sizes), 0))
    return norm(
        plan, node.inputs[0], target, sizes, over, _constants(plan, node, 1, 2, None), _epsilon(node), centered=False
    )


def instance_norm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Over everything behind the channels; a gain and a bias for each channel."""
    sizes = sizes_of(node.inputs[0])
    shape = (-1, *[1] * (len(sizes) - 2))
    over = tuple(range(2 - len(sizes), 0))
    return norm(
        plan, node.inputs[0], target, sizes, over, _constants(plan, node, 1, 2, shape), _epsilon(node), centered=True
    )


def group_norm(plan: Plan, node: ir.Node, target: Target | None) -> Made:
    """Over groups of channels and everything behind them; a gain and a bias for each channel."""
    if plan.opsets.get("", 1) < 21:
        raise NotIntegerError("before opset 21 it has a gain for each group")
    sizes, groups = sizes_of(node.inputs[0]), int(str(attribute(node, "num_groups")))
    shape = (groups, -1, *[1] * (len(sizes) - 2))
    channels = sizes[1]
    if channels is None:
        raise NotIntegerError("the number of its channels is not known")
    grouped = [sizes[0], groups, channels // groups, *sizes[2:]]
    over = tuple(range(1 - len(sizes), 0))
    return norm(
        plan,
        node.inputs[0],
        target,
        grouped,
        over,
        _constants(plan, node, 1, 2, shape),
        _epsilon(node),
        centered=True,
        groups=groups,
    )


def norm(
    plan: Plan,
    x: ir.Value | None,
    target: Target | None,
    sizes: list[int | None],
    over: tuple[int, ...],
    constants: tuple[Tensor, Tensor],
    epsilon: float,
    centered: bool,
    groups: int = 0,
) -> Made:
    """`d = n·q - Σq`, `V = n·Σq² - (Σq)²`; `z = d / √(V + ε·n²/scale²)` with 20 bits behind the point; `z·gain + bias`.

    Around 0 the two terms with Σq are left out.
    """
    target = needed(target)
    slot, grid = plan.grid(x)
    n = 1
    for axis in over:
        size = sizes[axis]
        if size is None:
            raise NotIntegerError("the number of elements it normalizes is not known before it runs")
        n *= size
    if n * (1 << (8 * torch.empty((), dtype=grid.dtype).element_size())) > 2**31:
        raise NotIntegerError(f"it normalizes {n} elements at once, too many for 64 bits")
    added = epsilon * n * n / grid.scale**2
    gain, bias = factor_onto(target, constants[0] * 2.0**-_NORM_BITS), constants[1] / target.grid.scale
    shift = (31 - torch.frexp(gain)[1].long()).clamp(max=_LARGEST_SHIFT)
    multiplier = torch.round(gain * 2.0 ** shift.double()).long()
    offset = torch.round(bias.clamp(-(2.0**16), 2.0**16) * 2.0 ** shift.double()).long()

    def run(q: Tensor) -> Tensor:
        shape = q.shape
        q = q.long() - grid.zero_point
        if groups:
            q = q.reshape(shape[0], groups, shape[1] // groups, *shape[2:])
        total = q.sum(over, keepdim=True) if centered else torch.zeros((), dtype=torch.int64)
        spread = n * (q * q).sum(over, keepdim=True) - total * total
        root = (spread.double() + added).clamp(min=1).sqrt()  # where spread is 0, so is what is divided
        z = Factors.of(2.0**_NORM_BITS / root, plan.arithmetic).times(n * q - total)
        y = ops.shifted(z * multiplier + offset, shift, plan.arithmetic.rounding) + target.grid.zero_point
        return target.clamp(y).reshape(shape)

    return Made(run, (slot,), (target.grid,))


def sizes_of(x: ir.Value | None) -> list[int | None]:
    """The sizes of `x`, None where one is not known before it runs.

    Raises:
        NotIntegerError: nor is their number.
    """
    shape = None if x is None else x.shape
    if shape is None:
        raise NotIntegerError("the shape of its input is not known")
    return [size if isinstance(size, int) else None for size in shape]


def _epsilon(node: ir.Node) -> float:
    return float(str(attribute(node, "epsilon", 1e-5)))


def _constants(plan: Plan, node: ir.Node, gain: int, bias: int, shape: tuple[int, ...] | None) -> tuple[Tensor, Tensor]:
    found = []
    for index, default in ((gain, 1.0), (bias, 0.0)):
        value = node.inputs[index] if len(node.inputs) > index else None
        constant = torch.tensor(default) if value is None else plan.constant(value)
        if constant is None:
            raise NotIntegerError("its gain or bias is computed")
        constant = constant.double()
        found.append(constant.reshape(shape) if shape is not None and constant.dim() else constant)
    return found[0], found[1]

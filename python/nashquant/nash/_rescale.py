"""From one scale to another: the step that rounds and saturates, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant import ops

from ._fixed_point import Factors
from ._forms import Accumulator, Grid, Root, ScaleError, Target

if TYPE_CHECKING:
    from nashquant.arithmetic import Arithmetic

__all__ = ["factor_onto", "land", "regrid"]


def factor_onto(target: Target, scale: float | Tensor) -> Tensor:
    """The factor that takes steps of `scale` to those of `target`, f64: `scale / target.grid.scale`.

    Raises:
        ScaleError: one is 2**31 or more, so that all but 0 would saturate.
    """
    factor = torch.as_tensor(scale, dtype=torch.float64) / target.grid.scale
    if not bool((factor.abs() < 2**31 - 0.5).all()):
        raise ScaleError(
            f"one step of what it rounds is {float(factor.abs().max()):.4g} steps of its quantizer, whose scale is "
            f"{target.grid.scale:.4g}, but must be less than 2**31: was it calibrated on nothing but zeros?"
        )
    return factor


def land(acc: Tensor, factor: Tensor, axis: int | None, target: Target, arithmetic: Arithmetic) -> Tensor:
    """`saturate(round(acc * factor) + zero_point)` on the grid of `target`, no further than its ends."""
    per_tensor = factor.dim() == 0
    return ops.requantize(
        acc,
        float(factor) if per_tensor else factor,
        target.grid.dtype,
        axis=None if per_tensor else axis,
        zero_point=target.grid.zero_point,
        qmin=target.low,
        qmax=target.high,
        arithmetic=arithmetic,
    )


def regrid(form: Grid | Accumulator | Root, target: Target, arithmetic: Arithmetic) -> Callable[[Tensor], Tensor]:
    """What takes integers of `form` to those of `target`; between equal grids they stay as they are."""
    if isinstance(form, Root):
        return lambda root: _root_on(root, target, arithmetic)
    if isinstance(form, Accumulator):
        factor, axis = factor_onto(target, form.scale), form.axis
        return lambda acc: land(acc, factor, axis, target, arithmetic)
    grid = form
    if grid.same_as(target.grid):
        return target.clamp if target != Target.whole(target.grid) else lambda x: x
    ratio = factor_onto(target, grid.scale)
    return lambda x: land(x.to(torch.int32) - grid.zero_point, ratio, None, target, arithmetic)


def _root_on(root: Tensor, target: Target, arithmetic: Arithmetic) -> Tensor:
    """`rhe(M)`, M of `root / scale`."""
    factors = Factors.of((root / target.grid.scale).clamp(max=2.0**30), arithmetic)
    return target.clamp(factors.times(torch.ones_like(factors.multiplier)) + target.grid.zero_point)

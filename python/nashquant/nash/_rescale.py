"""From one scale to another: the step that rounds and saturates, once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nashquant import ops

from ._fixed_point import Factors
from ._forms import Accumulator, Grid, Root, Target

if TYPE_CHECKING:
    from nashquant.arithmetic import Arithmetic

__all__ = ["land", "regrid"]


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
        factor, axis = form.scale / target.grid.scale, form.axis
        return lambda acc: land(acc, factor, axis, target, arithmetic)
    grid = form
    if grid.same_as(target.grid):
        return target.clamp if target != Target.whole(target.grid) else lambda x: x
    ratio = torch.tensor(grid.scale, dtype=torch.float64) / target.grid.scale
    return lambda x: land(x.to(torch.int32) - grid.zero_point, ratio, None, target, arithmetic)


def _root_on(root: Tensor, target: Target, arithmetic: Arithmetic) -> Tensor:
    """`rhe(M)`, M of `root / scale`."""
    factors = Factors.of((root / target.grid.scale).clamp(max=2.0**30), arithmetic)
    return target.clamp(factors.times(torch.ones_like(factors.multiplier)) + target.grid.zero_point)

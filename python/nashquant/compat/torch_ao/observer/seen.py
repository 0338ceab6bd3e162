"""The range of one tensor, and what becomes of it where it is not finite or where several processes look."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

from nashquant import ops
from nashquant.compat.torch_ao.parity import is_exact
from nashquant.quantization.observer import join_ranges, refuse_transforms

__all__ = ["Range", "all_finite", "follow", "least_and_greatest", "shows_nothing", "widen"]

Range = tuple[Tensor, Tensor]
"""Lower and upper end, 0-d or `[C]`."""


def least_and_greatest(x: Tensor, dtype: torch.dtype, axis: int | None = None, *, across_ranks: bool = False) -> Range:
    """The least and the greatest value of `x` in `dtype`; for each index of `axis` if there is one.

    Where one end is not finite, `inf` and `-inf`: as if nothing had been seen. One NaN would stay in a moving average
    for ever.

    Warns:
        UserWarning: something was not finite.
    """
    x = x.detach()
    if x.numel() == 0:
        shape = () if axis is None else (x.shape[axis],)
        low = torch.full(shape, torch.inf, dtype=dtype, device=x.device)
        return join_ranges(low, -low) if across_ranks else (low, -low)
    low, high = _ends(x if x.is_floating_point() else x.to(dtype), dtype, axis)
    if not is_exact():
        low, high = _without_what_is_not_finite(low, high)
    return join_ranges(low, high) if across_ranks else (low, high)


def _ends(x: Tensor, dtype: torch.dtype, axis: int | None) -> Range:
    if x.dtype == dtype == torch.float64:  # the kernels give f32
        return torch.aminmax(x) if axis is None else torch.aminmax(x.movedim(axis, 0).flatten(1), dim=1)
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x = x.to(dtype)
    low, high = ops.min_max_per_tensor(x) if axis is None else ops.min_max_per_channel(x, axis)
    return (low, high) if dtype == torch.float32 else (low.to(dtype), high.to(dtype))


def _without_what_is_not_finite(low: Tensor, high: Tensor) -> Range:
    if not torch.compiler.is_compiling() and all_finite(low, high):
        return low, high
    finite = low.isfinite() & high.isfinite()
    if not torch.compiler.is_compiling() and not bool(finite.all()):
        warnings.warn("NaN or infinity detected in input tensor, ignoring input", stacklevel=4)
    return torch.where(finite, low, torch.inf), torch.where(finite, high, -torch.inf)


def all_finite(low: Tensor, high: Tensor) -> bool:
    """Are both ends numbers, everywhere? Says no, too, where the difference of finite ends or their sum is infinite."""
    if low.dim() == 0:
        return math.isfinite(low.item()) and math.isfinite(high.item())
    return math.isfinite((high - low).sum().item())  # infinity less infinity is none either; one look at the values


def shows_nothing(x: Tensor, *, across_ranks: bool) -> bool:
    """Has `x` no values, being on "meta", or no elements, where nobody else looks along?

    Raises:
        RuntimeError: `torch.func` is at work.
    """
    if x.is_meta:
        return True
    refuse_transforms("an unnamed observer")
    return x.numel() == 0 and not across_ranks


def widen(held: Range, seen: Range) -> Range:
    """The range of both."""
    return torch.minimum(seen[0], held[0]), torch.maximum(seen[1], held[1])


def follow(held: Range, seen: Range, averaging_constant: float) -> Range:
    """`held + averaging_constant * (seen - held)`; what was seen, where nothing was held; what is held, where nothing
    was seen.
    """
    moved = (
        held[0] + averaging_constant * (seen[0] - held[0]),
        held[1] + averaging_constant * (seen[1] - held[1]),
    )
    if not torch.compiler.is_compiling() and all_finite(*moved):
        return moved  # something was held and something seen, everywhere: else there would be infinities
    if is_exact():
        return seen if held[0].dim() == 0 and _is_nothing(held) else moved
    started = ~((held[0] == torch.inf) & (held[1] == -torch.inf))
    ends = torch.where(started, moved[0], seen[0]), torch.where(started, moved[1], seen[1])
    looked = ~((seen[0] == torch.inf) & (seen[1] == -torch.inf))
    return torch.where(looked, ends[0], held[0]), torch.where(looked, ends[1], held[1])


def _is_nothing(ends: Range) -> bool:
    return ends[0].item() == torch.inf and ends[1].item() == -torch.inf

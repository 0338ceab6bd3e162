"""One range from those of all processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["join_ranges"]


def join_ranges(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least `low` and greatest `high` over all processes; the arguments themselves in a single one."""
    if not (dist.is_available() and dist.is_initialized()):
        return low, high
    ends = torch.stack([-low, high])  # one call instead of two
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    return -ends[0], ends[1]

"""What the processes of torch.distributed see, as one process would see it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["are_several", "join_ranges", "join_sums", "synchronize_observers"]


def are_several() -> bool:
    """Whether there are other processes to ask."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def join_ranges(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least `low` and greatest `high` over all processes; the arguments themselves in a single one."""
    if not are_several():
        return low, high
    ends = torch.stack([-low, high])  # one call instead of two
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    return -ends[0], ends[1]


def join_sums(values: Tensor) -> Tensor:
    """The sum of `values` over all processes, the same bits in each; `values` itself in a single one."""
    if not are_several():
        return values
    values = values.clone()
    dist.all_reduce(values)
    return values


def synchronize_observers(model: nn.Module, enabled: bool = True) -> list[str]:
    """Makes the observers of `model` look at what all processes see (`is_sync_quantize`); gives their names.

    To be called in each process after `prepare`, before it calibrates or trains. The observers of weights are left
    out: weights are alike in all processes.

    >>> from nashquant.quantization.fake_quantize import FakeQuantize
    >>> synchronize_observers(nn.ModuleDict({"weight_fake_quant": FakeQuantize(), "output": FakeQuantize()}))
    ['output.activation_post_process']

    Raises:
        ValueError: there is no observer; was the model prepared?
    """
    observers = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "is_sync_quantize") and "weight_fake_quant" not in name.split(".")
    }
    if not observers:
        raise ValueError(f"this {type(model).__name__} has no observer; prepare() returns the model to use")
    for observer in observers.values():
        observer.is_sync_quantize = enabled
    return list(observers)

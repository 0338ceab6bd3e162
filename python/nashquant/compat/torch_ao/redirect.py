"""A context in which torch's functions of fake quantization are ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from . import functional

__all__ = ["redirect_fake_quantize"]

_OURS: dict[Callable[..., Any], Callable[..., Any]] = {
    getattr(torch, name): getattr(functional, name) for name in functional.__all__
}


class redirect_fake_quantize(TorchFunctionMode):
    """Inside, calls of `torch.fake_quantize_per_tensor_affine` and its like go to nashquant, in this thread.

    >>> with redirect_fake_quantize():
    ...     torch.fake_quantize_per_tensor_affine(torch.tensor([0.24, 9.0]), 0.5, 2, 0, 7)
    tensor([0.0000, 2.5000])

    A context around `torch.utils.checkpoint` does not hold in backward, not even if that is called inside: torch's
    functions then compute the forward once more, save other tensors than ours, and `use_reentrant=False` raises a
    CheckpointError. Enter it in the function that is checkpointed, or give it to the checkpoint:
    `checkpoint(f, x, use_reentrant=False, context_fn=lambda: (redirect_fake_quantize(), redirect_fake_quantize()))`.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Calls ours for `func`, if there is one."""
        return _OURS.get(func, func)(*args, **(kwargs or {}))

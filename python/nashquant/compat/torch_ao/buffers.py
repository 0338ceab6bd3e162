"""Buffers whose shape changes: with the number of channels, and between checkpoints."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nashquant.compat.torch_ao.parity import is_exact

__all__ = ["resized_to_loaded", "set_buffer", "shaped_like_own"]


def set_buffer(module: nn.Module, name: str, value: Tensor) -> None:
    """Writes `value` to a buffer in place, which takes its shape; a compiler, which can't resize, gets a new tensor."""
    buffer = getattr(module, name)
    if buffer.shape != value.shape:
        if torch.compiler.is_compiling():
            setattr(module, name, value.to(buffer.dtype))
            return
        buffer.resize_(value.shape)
    buffer.copy_(value)


def shaped_like_own(module: nn.Module, state_dict: dict[str, Any], prefix: str, *names: str) -> None:
    """Gives tensors of one element in `state_dict` the shape that `module`'s buffers have."""
    if is_exact():
        return
    for name in names:
        loaded, own = state_dict.get(prefix + name), getattr(module, name)
        if isinstance(loaded, Tensor) and loaded.numel() == own.numel() == 1 and loaded.shape != own.shape:
            state_dict[prefix + name] = loaded.reshape(own.shape)


def resized_to_loaded(module: nn.Module, state_dict: dict[str, Any], prefix: str, *names: str) -> list[str]:
    """Resizes `module`'s buffers to what is loaded; gives the keys that are missing."""
    missing = []
    for name in names:
        loaded = state_dict.get(prefix + name)
        if loaded is None:
            missing.append(prefix + name)
        else:
            getattr(module, name).resize_(loaded.shape)
    return missing

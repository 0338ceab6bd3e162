"""When an observer must not look."""

from __future__ import annotations

import torch
from torch.compiler import is_compiling

__all__ = ["is_recomputing", "refuse_transforms"]

_backward = torch._C._current_graph_task_id  # -1 where none is running
_transforms = torch._C._are_functorch_transforms_active


def is_recomputing() -> bool:
    """Whether a checkpoint runs its forward once more, inside of backward: that was observed the first time.

    A range that moved between the two would give the gradients of a forward that never was.
    """
    return not is_compiling() and _backward() != -1


def refuse_transforms(where: str) -> None:
    """Raises RuntimeError, naming `where`, under `torch.func`: it can neither move a range nor read a value."""
    if not is_compiling() and _transforms():
        raise RuntimeError(
            f"torch.func is at work, which can't move a range (while observing {where}). Turn the observer off first: "
            "set_fake_quantize(model, FakeQuantState.VALIDATION), or disable_observer()"
        )

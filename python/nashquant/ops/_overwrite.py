"""May a gradient be overwritten? Only if nobody else can ever look at it.

A gradient that an operator has just made belongs to autograd's engine, which hands it to one node. Whoever else keeps
it holds a reference: to the Python object, to torch's tensor, to its storage, or to the memory below that. The engine
itself adds up gradients in place where it holds the last one (torch/csrc/autograd/input_buffer.cpp).
"""

from __future__ import annotations

import sys
import weakref

import torch
from torch import Tensor

_WORTH_IT = 1 << 18  # bytes; a new tensor of less is warm memory, and costs as much as asking
_graph_task = torch._C._current_graph_task_id
_storage_use_count = getattr(torch._C, "_storage_Use_Count", None)


def may_be_overwritten(grad_y: Tensor) -> bool:
    """Is one reference in Python, of which the caller knows, all that leads to `grad_y` and to its memory?

    No hook, graph, saved tensor, view, numpy array, storage or other process; `grad_y` was not handed in from outside.
    Small tensors are never worth the question.
    """
    return (
        grad_y.nbytes >= _WORTH_IT
        and _OF_ONE_TENSOR is not None
        and _graph_task() >= 0  # outside of the engine a caller may know of references that are not counted
        and not torch.is_grad_enabled()  # or a graph of this backward may want it
        and _references(grad_y) == _OF_ONE_TENSOR
        and _owns_its_memory(grad_y)
        and not weakref.getweakrefcount(grad_y)
    )


def _references(x: Tensor) -> tuple[int, int, int] | None:
    """How many C++ references to the tensor, C++ references to its storage and Python references to that there are.

    None if this torch does not tell.
    """
    if _storage_use_count is None or not hasattr(x, "_use_count"):
        return None
    # The storage as a temporary each time: how often a variable is counted differs between versions of Python.
    return x._use_count(), _storage_use_count(x.untyped_storage()._cdata), sys.getrefcount(x.untyped_storage())


_OF_ONE_TENSOR = _references(torch.empty(1, device="cpu"))


def _owns_its_memory(x: Tensor) -> bool:
    """Did torch allocate it, for this process alone? Not so: a numpy array's memory, a file's, shared memory."""
    storage = x.untyped_storage()
    return storage.resizable() and not storage.is_shared()

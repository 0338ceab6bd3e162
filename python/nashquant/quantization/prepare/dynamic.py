"""`dynamic_block`: a piece of a forward that runs any number of times, its calls the same ones each time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import nn
from torch.compiler import is_dynamo_compiling

__all__ = ["Passes", "dynamic_block", "seen_by", "thread"]


class Passes:
    """One running forward, and how the calls in it are counted.

    Attributes:
        step: what passing a call adds to its count; 0 in a dynamic block, where each pass is the same call.
    """

    __slots__ = ("step",)

    def __init__(self) -> None:
        self.step = 1


class _RunsForwards(Protocol):
    @property
    def scope(self) -> Passes | None: ...


class _Thread(threading.local):
    """`mode`: what sees the calls of this thread: while a model is recorded, or runs prepared."""

    mode: _RunsForwards | None = None


thread = _Thread()


@contextmanager
def seen_by(mode: _RunsForwards) -> Iterator[None]:
    """Says what sees the calls of this thread."""
    outer, thread.mode = thread.mode, mode
    try:
        yield
    finally:
        thread.mode = outer


@contextmanager
def dynamic_block(module: nn.Module | None = None, name: str = "") -> Iterator[None]:
    """Within it, a call in the same place is one op, however often it runs: all passes share one scale.

    For a loop whose number of rounds depends on the data. Without it each round's calls are ops of their own, and a
    round more than the example inputs had is an error. In a model that is not prepared it changes nothing.

    >>> def forward(self, x, rounds):
    ...     for _ in range(rounds):
    ...         with dynamic_block(self, "refine"):
    ...             x = torch.relu(x + self.conv(x))
    ...     return x

    Args:
        module: the module whose forward this is, as the vendor's has it; not needed.
        name: for the reader.

    Raises:
        NotImplementedError: a prepared model is compiled, where the rounds can't be told apart.
    """
    if not isinstance(module, (nn.Module, type(None))):
        raise TypeError(f"dynamic_block takes the module whose forward it is in, and a name, not {module!r}")
    scope = None if thread.mode is None else thread.mode.scope
    if scope is None:
        yield
        return
    if is_dynamo_compiling():
        raise NotImplementedError("a dynamic_block of a prepared model can't be compiled: run this model uncompiled")
    before, scope.step = scope.step, 0
    try:
        yield
    finally:
        scope.step = before

"""A module whose buffers keep their dtype."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self

__all__ = ["ExactBuffers"]


class ExactBuffers(nn.Module):
    """Its buffers move with `.to(device)`, and keep dtype and value under `.half()`, `.double()`,
    `.to(dtype)`.

    A scale in half precision is another scale: everything it was calibrated for would be off.
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types here
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """As torch, but `assign=True` cannot bring in another dtype."""
        before = {name: buffer.dtype for name, buffer in self._buffers.items() if isinstance(buffer, Tensor)}
        super()._load_from_state_dict(*args, **kwargs)
        for name, dtype in before.items():
            buffer = self._buffers[name]
            if buffer is not None and buffer.dtype != dtype:
                self._buffers[name] = buffer.to(dtype)

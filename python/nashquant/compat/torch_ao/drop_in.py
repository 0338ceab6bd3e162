"""What observers and fake quantizers share: how they take the place of torch.ao's, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn
from typing_extensions import Self

from nashquant.compat.torch_ao.namesakes import join_namesakes
from nashquant.compat.torch_ao.parity import is_exact
from nashquant.quantization.observer import ExactBuffers

__all__ = ["DropIn"]


class DropIn(ExactBuffers):
    """Known to torch.ao, if that is loaded, as its own; its scale and range stay f32 when a model is cast.

    In torch.ao a cast makes them half precision: another scale, and an error in the fused module and per channel.

    Raises:
        RuntimeError: `torch.jit.script` is asked to compile it.
    """

    def __init__(self) -> None:
        super().__init__()
        join_namesakes()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # torch has no types here
        join_namesakes()

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        if is_exact():
            return nn.Module._apply(self, fn, recurse)  # type: ignore[no-untyped-call,no-any-return]  # torch has none
        return super()._apply(fn, recurse)

    def __prepare_scriptable__(self) -> Any:
        raise RuntimeError(
            f"{type(self).__name__} can't be compiled by torch.jit.script, which torch has deprecated: use "
            "torch.compile or torch.export"
        )

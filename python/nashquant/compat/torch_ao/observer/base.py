"""What every observer is."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nashquant.compat.torch_ao.drop_in import DropIn
from nashquant.compat.torch_ao.factory import PartialWrapper, with_args, with_callable_args
from nashquant.compat.torch_ao.namesakes import join_namesakes

__all__ = ["ObserverBase"]


class _Abstract(metaclass=ABCMeta):  # noqa: B024
    # Without the empty `__slots__` of `abc.ABC`. torch.ao's observers have such a base, and `accelerate` can make them
    # ours only if both lie in memory alike.
    pass


class ObserverBase(_Abstract, DropIn):
    """Looks at tensors in `forward`, and gives scale and zero point in `calculate_qparams`.

    Args:
        dtype: the integer type, as a torch dtype.
        is_dynamic: stands for quantization whose scale is chosen at run time.
    """

    def __init__(self, dtype: torch.dtype, is_dynamic: bool = False) -> None:
        super().__init__()
        self.dtype = dtype
        self.is_dynamic = is_dynamic

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Observes `x` and gives it back."""

    @abstractmethod
    def calculate_qparams(self, **kwargs: Any) -> Any:
        """Scale and zero point."""

    @classmethod
    def with_args(cls, **kwargs: Any) -> PartialWrapper:
        """How to make one with these arguments, for a QConfig."""
        return with_args(cls, **kwargs)

    @classmethod
    def with_callable_args(cls, **kwargs: Callable[[], Any]) -> PartialWrapper:
        """How to make one with arguments that are computed each time."""
        return with_callable_args(cls, **kwargs)


join_namesakes(ObserverBase)

"""One range for the whole tensor: all that was seen, or its moving average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nashquant.compat.torch_ao.buffers import shaped_like_own
from nashquant.compat.torch_ao.namesakes import join_namesakes

from .qparams import is_per_tensor
from .seen import Range, follow, least_and_greatest, shows_nothing, widen
from .uniform import UniformQuantizationObserverBase

__all__ = ["MinMaxObserver", "MovingAverageMinMaxObserver"]


class MinMaxObserver(UniformQuantizationObserverBase):
    """Keeps the least and the greatest value of everything it saw.

    >>> observer = MinMaxObserver(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    >>> _ = observer(torch.tensor([-1.0, 3.0])), observer(torch.tensor([0.5]))
    >>> observer
    MinMaxObserver(min_val=-1.0, max_val=3.0)
    >>> observer.calculate_qparams()
    (tensor([0.0235]), tensor([0]))

    Arguments: those of `UniformQuantizationObserverBase`; `qscheme` is per tensor.

    Raises:
        NotImplementedError: `qscheme` is per channel; or symmetric, quint8 and of reduced range.
    """

    min_val: Tensor
    max_val: Tensor

    def __init__(
        self,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: Mapping[str, Any] | None = None,
        eps: float = torch.finfo(torch.float32).eps,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        _check_per_tensor(type(self).__name__, qscheme)
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic, **kwargs)
        self.register_buffer("min_val", torch.full_like(self.eps[0], torch.inf))
        self.register_buffer("max_val", torch.full_like(self.eps[0], -torch.inf))
        if qscheme == torch.per_tensor_symmetric and reduce_range and dtype == torch.quint8:
            raise NotImplementedError("Cannot reduce range for symmetric quantization for quint8")

    def forward(self, x_orig: Tensor) -> Tensor:
        """Observes `x_orig` and gives it back. Nothing is seen in an empty tensor."""
        if shows_nothing(x_orig, across_ranks=self.is_sync_quantize):
            return x_orig
        seen = least_and_greatest(x_orig, self.min_val.dtype, across_ranks=self.is_sync_quantize)
        low, high = self._combine((self.min_val, self.max_val), seen)
        self.min_val.copy_(low)
        self.max_val.copy_(high)
        return x_orig

    def _combine(self, held: Range, seen: Range) -> Range:
        return widen(held, seen)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # as torch.ao has it
        """Scale and zero point, `[1]` each."""
        return self._calculate_qparams(self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """The range."""
        return f"min_val={self.min_val}, max_val={self.max_val}"

    def reset_min_max_vals(self) -> None:
        """Forgets what was seen."""
        self.min_val.fill_(torch.inf)
        self.max_val.fill_(-torch.inf)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        shaped_like_own(self, state_dict, prefix, "min_val", "max_val")
        super()._load_from_state_dict(state_dict, prefix, *rest)


class MovingAverageMinMaxObserver(MinMaxObserver):
    """Keeps a range that moves: `m <- m + averaging_constant * (current - m)`; the first tensor starts it.

    Args:
        averaging_constant: how far it moves; 1 follows the current tensor.
        dtype: those of `MinMaxObserver` from here.
        qscheme: per tensor.
        reduce_range: a bit less.
        quant_min: the least integer.
        quant_max: the greatest integer.
        eps: the least scale.
        is_dynamic: only with an `averaging_constant` of 1.
        **kwargs: `factory_kwargs`, `is_sync_quantize`.

    Raises:
        NotImplementedError: as `MinMaxObserver`; `is_dynamic` with another constant.
    """

    def __init__(
        self,
        averaging_constant: float = 0.01,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_tensor_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = torch.finfo(torch.float32).eps,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        _check_per_tensor(type(self).__name__, qscheme)
        if is_dynamic and averaging_constant != 1:
            raise NotImplementedError(
                "MovingAverageMinMaxObserver doesn't support dynamic quantization for averaging constant of "
                f"{averaging_constant}"
            )
        super().__init__(
            dtype=dtype,
            qscheme=qscheme,
            reduce_range=reduce_range,
            quant_min=quant_min,
            quant_max=quant_max,
            eps=eps,
            is_dynamic=is_dynamic,
            **kwargs,
        )
        self.averaging_constant = averaging_constant

    def _combine(self, held: Range, seen: Range) -> Range:
        return follow(held, seen, self.averaging_constant)


def _check_per_tensor(name: str, qscheme: torch.qscheme) -> None:
    if not is_per_tensor(qscheme):
        raise NotImplementedError(
            f"{name}'s qscheme only support torch.per_tensor_symmetric and torch.per_tensor_affine, but got: {qscheme}"
        )


join_namesakes(MinMaxObserver)
join_namesakes(MovingAverageMinMaxObserver)

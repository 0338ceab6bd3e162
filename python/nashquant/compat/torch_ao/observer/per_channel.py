"""A range for each channel: all that was seen, or its moving average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nashquant.compat.torch_ao.buffers import resized_to_loaded, set_buffer
from nashquant.compat.torch_ao.namesakes import join_namesakes

from .qparams import is_per_channel
from .seen import Range, follow, least_and_greatest, shows_nothing, widen
from .uniform import UniformQuantizationObserverBase

__all__ = ["MovingAveragePerChannelMinMaxObserver", "PerChannelMinMaxObserver"]


class PerChannelMinMaxObserver(UniformQuantizationObserverBase):
    """Keeps the least and the greatest value of each channel of everything it saw.

    >>> observer = PerChannelMinMaxObserver(dtype=torch.qint8, qscheme=torch.per_channel_symmetric)
    >>> _ = observer(torch.tensor([[-1.0, 3.0], [0.5, 0.25]]))
    >>> observer
    PerChannelMinMaxObserver(min_val=tensor([-1.0000,  0.2500]), max_val=tensor([3.0000, 0.5000]))

    Args:
        ch_axis: the channel axis.
        dtype: those of `UniformQuantizationObserverBase` from here.
        qscheme: per channel.
        reduce_range: a bit less.
        quant_min: the least integer.
        quant_max: the greatest integer.
        factory_kwargs: `{"device": ..., "dtype": ...}` for the buffers.
        eps: the least scale.
        is_dynamic: must be False.
        **kwargs: `is_sync_quantize`.

    Raises:
        NotImplementedError: `qscheme` is per tensor, or it is dynamic; or symmetric, quint8 and of reduced range.
    """

    min_val: Tensor
    max_val: Tensor

    def __init__(
        self,
        ch_axis: int = 0,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_channel_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: Mapping[str, Any] | None = None,
        eps: float = torch.finfo(torch.float32).eps,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        name = type(self).__name__
        if not is_per_channel(qscheme):
            raise NotImplementedError(
                f"{name}'s qscheme only support torch.per_channel_symmetric, torch.per_channel_affine and "
                f"torch.per_channel_affine_float_qparams, but got: {qscheme}"
            )
        if is_dynamic:
            raise NotImplementedError(f"{name} doesn't support dynamic quantization")
        super().__init__(dtype, qscheme, reduce_range, quant_min, quant_max, factory_kwargs, eps, is_dynamic, **kwargs)
        self.ch_axis = ch_axis
        self.register_buffer("min_val", self.eps.new_empty(0))
        self.register_buffer("max_val", self.eps.new_empty(0))
        if qscheme == torch.per_channel_symmetric and reduce_range and dtype == torch.quint8:
            raise NotImplementedError("Cannot reduce range for symmetric quantization for quint8")

    def forward(self, x_orig: Tensor) -> Tensor:
        """Observes `x_orig` and gives it back. Nothing is seen in an empty tensor."""
        if shows_nothing(x_orig, across_ranks=self.is_sync_quantize):
            return x_orig
        seen = least_and_greatest(x_orig, self.min_val.dtype, self.ch_axis, across_ranks=self.is_sync_quantize)
        first = self.min_val.numel() == 0 or self.max_val.numel() == 0
        low, high = seen if first else self._combine((self.min_val, self.max_val), seen)
        set_buffer(self, "min_val", low)
        set_buffer(self, "max_val", high)
        return x_orig

    def _combine(self, held: Range, seen: Range) -> Range:
        return widen(held, seen)

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # as torch.ao has it
        """Scale and zero point, `[C]` each."""
        return self._calculate_qparams(self.min_val, self.max_val)

    def extra_repr(self) -> str:
        """The range."""
        return f"min_val={self.min_val}, max_val={self.max_val}"

    def reset_min_max_vals(self) -> None:
        """Forgets what was seen, and how many channels there are."""
        self.min_val = self.min_val.new_empty(0)
        self.max_val = self.max_val.new_empty(0)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in ("min_val", "max_val"):  # as versions 1 and 2 called them; torch.ao loses what is in them
            if prefix + name + "s" in state_dict:
                state_dict[prefix + name] = state_dict.pop(prefix + name + "s")
        missing = resized_to_loaded(self, state_dict, prefix, "min_val", "max_val")
        if strict:
            missing_keys.extend(missing)
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, False, missing_keys, unexpected_keys, error_msgs
        )


class MovingAveragePerChannelMinMaxObserver(PerChannelMinMaxObserver):
    """Keeps a range for each channel that moves: `m <- m + averaging_constant * (current - m)`.

    Args:
        averaging_constant: how far it moves; 1 follows the current tensor.
        ch_axis: those of `PerChannelMinMaxObserver` from here.
        dtype: the integer type, as a torch dtype.
        qscheme: per channel.
        reduce_range: a bit less.
        quant_min: the least integer.
        quant_max: the greatest integer.
        eps: the least scale.
        is_dynamic: must be False.
        **kwargs: `factory_kwargs`, `is_sync_quantize`.

    Raises:
        NotImplementedError: as `PerChannelMinMaxObserver`.
    """

    def __init__(
        self,
        averaging_constant: float = 0.01,
        ch_axis: int = 0,
        dtype: torch.dtype = torch.quint8,
        qscheme: torch.qscheme = torch.per_channel_affine,
        reduce_range: bool = False,
        quant_min: int | None = None,
        quant_max: int | None = None,
        eps: float = torch.finfo(torch.float32).eps,
        is_dynamic: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            ch_axis=ch_axis,
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


join_namesakes(PerChannelMinMaxObserver)
join_namesakes(MovingAveragePerChannelMinMaxObserver)

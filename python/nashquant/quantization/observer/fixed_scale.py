"""The scale is given, and stays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nashquant.dtype import QuantDType, qint8

from .base import ObserverBase
from .scale import range_from_scale

__all__ = ["FixedScaleObserver"]


class FixedScaleObserver(ObserverBase):
    """Keeps the scale it was made with, in every state and whatever the data.

    For a threshold `t` of qint8 the convention is `scale = t / 128`, for qint16 `t / 32768`.

    A checkpoint does not change it either: the scale is part of the configuration, as the dtype is, and the
    reason to fix one (the sensor's range, two inputs of an add that must agree) holds for whatever was
    trained before. `FakeQuantize` warns when a checkpoint says something else.

    >>> FixedScaleObserver(scale=0.03125)
    FixedScaleObserver(scale=tensor([0.0312]), zero_point=tensor([0]))

    Args:
        scale: real units per step, > 0; per channel one value for each, or one for all.
        zero_point: 0; NASH quantization is symmetric.
        dtype: the integer type of the grid.
        qscheme: `torch.per_tensor_symmetric` or `torch.per_channel_symmetric`.
        ch_axis: the channel axis if `qscheme` is per channel.
        quant_min: the lower end of the grid, if not that of `dtype`.
        quant_max: the upper end of the grid, if not that of `dtype`.
        factory_kwargs: `{"device": ...}` for the buffers.
        channel_len: how many channels there are, if `qscheme` is per channel.

    Raises:
        TypeError: a scale that is no number.
        ValueError: a scale that is not positive and finite (or so small that `1 / scale` is not), or as many
            scales as there are no channels; a zero point other than 0.
    """

    scale: Tensor

    def __init__(
        self,
        scale: float | Sequence[float] | Tensor,
        zero_point: int | Tensor = 0,
        dtype: QuantDType = qint8,
        qscheme: torch.qscheme = torch.per_tensor_symmetric,
        ch_axis: int = -1,
        quant_min: int | None = None,
        quant_max: int | None = None,
        factory_kwargs: Mapping[str, Any] | None = None,
        *,
        channel_len: int = 1,
    ) -> None:
        value = check_scale(scale)
        check_zero_point(zero_point)
        super().__init__(
            averaging_constant=0.0,
            ch_axis=ch_axis,
            dtype=dtype,
            qscheme=qscheme,
            quant_min=quant_min,
            quant_max=quant_max,
            factory_kwargs=factory_kwargs,
            channel_len=value.numel() if channel_len == 1 else channel_len,
        )
        if value.numel() not in (1, self.channel_len):
            raise ValueError(f"scale has {value.numel()} values, expected {self.channel_len}")
        self.register_buffer("scale", value.to(self.min_val.device).repeat(self.channel_len // value.numel()), False)
        self._range_of_scale()

    def choose_range(self, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The fixed one."""
        return self.min_val, self.max_val

    def observe(self, x: Tensor) -> bool:
        """Nothing moves."""
        return False

    def set_scale(self, scale: Tensor) -> None:
        """Fixes another scale."""
        self.scale.copy_(scale)
        self._range_of_scale()

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """The scale as it was given, and 0."""
        return self.scale, torch.zeros_like(self.scale, dtype=torch.int32)

    def _range_of_scale(self) -> None:
        low, high = range_from_scale(self.scale, self.quant_min, self.quant_max)
        self.set_range(low.reshape(self.min_val.shape), high.reshape(self.max_val.shape))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        own = {prefix + name: getattr(self, name).clone() for name in ("min_val", "max_val")}
        kept = {key: value for key, value in own.items() if key in state_dict}
        super()._load_from_state_dict({**state_dict, **kept}, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """The scale and the zero point."""
        return f"scale={self.scale.cpu()}, zero_point={torch.zeros_like(self.scale, dtype=torch.int64).cpu()}"


def check_scale(scale: float | Sequence[float] | Tensor) -> Tensor:
    """`scale` as f32 `[n]`. Raises ValueError if a value is not a usable scale, TypeError if it is no number."""
    try:
        value = torch.as_tensor(scale, dtype=torch.float32).detach().reshape(-1).clone()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"scale is {scale!r}, expected a number, a list of numbers or a tensor") from None
    if value.numel() == 0:
        raise ValueError("scale is empty, expected at least one value")
    for one, inverse in zip(value.tolist(), (1 / value).tolist(), strict=True):
        if not (one > 0 and math.isfinite(one) and math.isfinite(inverse)):
            raise ValueError(f"scale is {one:g}, expected a positive finite number with a finite 1 / scale")
    return value


def check_zero_point(zero_point: int | Sequence[int] | Tensor) -> None:
    """Raises ValueError if a zero point is not 0."""
    if bool((torch.as_tensor(zero_point) != 0).any()):
        raise ValueError(f"zero_point is {zero_point}, expected 0: NASH quantization is symmetric")

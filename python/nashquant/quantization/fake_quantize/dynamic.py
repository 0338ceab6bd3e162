"""Dynamic quantization: each tensor has the scale of its own range."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nashquant import ops
from nashquant.quantization.observer import AccumulatingObserver, FixedScaleObserver, MinMaxObserver, ObserverBase

from .module import FakeQuantize
from .switch import GlobalFakeQuantSwitch

__all__ = ["DynamicFakeQuantize"]


class DynamicFakeQuantize(FakeQuantize):
    """A `FakeQuantize` that takes the scale of each tensor from that tensor, in every state.

    As a `FakeQuantize` whose observer has `averaging_constant=1` and is never switched off. There is nothing to
    calibrate: CALIBRATION lets values pass. `scale` is that of the last tensor. It can't be exported, since a graph of
    QuantizeLinear has constant scales.

    >>> import torch
    >>> quantizer = DynamicFakeQuantize().eval()
    >>> for x in (torch.tensor([0.3, 127.5]), torch.tensor([0.3, 1.275])):
    ...     print(quantizer(x))
    tensor([  0., 127.])
    tensor([0.3000, 1.2700])

    Args:
        observer: chooses the range from one tensor: MinMaxObserver, MSEObserver, PercentileObserver or MixObserver.
        channel_len: as in `FakeQuantize`.
        **observer_kwargs: the arguments of `observer`, except `averaging_constant`.

    Raises:
        TypeError, ValueError: as `FakeQuantize`; an observer that looks at more than one tensor, or at none.
    """

    def __init__(
        self, observer: type[ObserverBase] = MinMaxObserver, channel_len: int = 1, **observer_kwargs: Any
    ) -> None:
        if isinstance(observer, type) and issubclass(observer, (AccumulatingObserver, FixedScaleObserver)):
            raise ValueError(
                f"DynamicFakeQuantize takes its scale from each tensor alone, which {observer.__name__} doesn't: take "
                "MinMaxObserver, MSEObserver, PercentileObserver or MixObserver"
            )
        if observer_kwargs.get("averaging_constant", 1.0) != 1:
            constant = observer_kwargs["averaging_constant"]
            raise ValueError(f"averaging_constant is {constant}, but DynamicFakeQuantize remembers nothing to average")
        super().__init__(observer, channel_len, **{**observer_kwargs, "averaging_constant": 1.0})

    @property
    def has_scale(self) -> bool:
        """True: every tensor brings its own."""
        return True

    def forward(self, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        """Fake-quantizes `x`, if it shall, on the grid of its own range.

        Raises:
            TypeError: `x` is not floating point.
            ValueError: `x` has NaN or infinite values, or a wrong number of channels.
        """
        if not (self._quantizes and GlobalFakeQuantSwitch.enabled):
            return x if clamp is None else clamp.function(x)
        if (y := self._in_one_call(x, clamp)) is not None:
            return y
        x = x if clamp is None else clamp.function(x)
        self._observe(x)
        return self._quantize(x)

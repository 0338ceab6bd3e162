"""LSQ: the scale is trained with the weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nashquant import ops
from nashquant.quantization.observer import MinMaxObserver, ObserverBase

from .learned import LearnedFakeQuantize
from .warning import scale_never_set

__all__ = ["_LearnableFakeQuantize"]


class _LearnableFakeQuantize(LearnedFakeQuantize):
    """A `FakeQuantize` whose `scale` is a parameter (LSQ).

    `y` is that of `FakeQuantize`. `grad_scale = g * sum(grad_y * d)`, where d is `round(x / scale) - x / scale` inside
    the grid and `quant_min` or `quant_max` beyond it; g is 1, or with `use_grad_scaling`
    `1 / sqrt(values for each scale * quant_max)`, so that a scale moves as fast, relative to its size, as weights do.
    Esser et al., "Learned Step Size Quantization", ICLR 2020. The first scale is the observer's: see
    `LearnedFakeQuantize`. It can't become 0 or negative: below 2**-23 it is set to that.

    In the state_dict it is a `FakeQuantize`: a calibrated checkpoint loads, and its scales are trained. They are
    parameters of the model: give them to the optimizer, best without weight decay.

    >>> quantizer = _LearnableFakeQuantize(use_grad_scaling=True)
    >>> quantizer.set_qparams(1.0)
    >>> quantizer(torch.tensor([0.25, 9.0])).sum().backward()
    >>> quantizer.scale.grad  # -0.25 / sqrt(2 * 127)
    tensor([-0.0157])

    Args:
        observer: chooses the first scale.
        channel_len: as in `FakeQuantize`.
        use_grad_scaling: multiply the gradient of the scale by g.
        **observer_kwargs: the arguments of `observer`, except `pow_quantization`.

    Raises:
        TypeError, ValueError: as `FakeQuantize`; a FixedScaleObserver, and powers of two.
    """

    learned = "scale"

    def __init__(
        self,
        observer: type[ObserverBase] = MinMaxObserver,
        channel_len: int = 1,
        use_grad_scaling: bool = False,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, channel_len, **observer_kwargs)
        scale = self.scale
        del self.scale
        self.scale = nn.Parameter(scale)
        self.register_buffer("_no_shift", torch.zeros_like(scale), persistent=False)
        self.use_grad_scaling = use_grad_scaling

    _no_shift: Tensor

    def _quantize(self, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        if torch.compiler.is_exporting():
            return self._on_grid(x, self.scale, clamp)
        if not torch.compiler.is_compiling() and not self.has_scale:
            self._notices.say_once("unset", scale_never_set(self.where))
        scale = self._kept_positive()
        try:
            if not (scale.requires_grad and torch.is_grad_enabled()):
                return self._on_grid(x, scale, clamp)
            x = x if clamp is None else clamp.function(x)
            grid = self.quant_min, self.quant_max, self._grad_factor(x)
            if self._per_channel:
                axis = self.ch_axis % x.dim()
                return ops.fake_quantize_learnable_per_channel(x, scale, self._no_shift, axis, *grid)
            return ops.fake_quantize_learnable_per_tensor(x, scale, self._no_shift, *grid)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error} (while quantizing {self.where})") from error

    def _grad_factor(self, x: Tensor) -> float:
        if not self.use_grad_scaling or x.numel() == 0:
            return 1.0
        return 1 / math.sqrt(x.numel() / self.scale.numel() * self.quant_max)

    def extra_repr(self) -> str:
        """As `FakeQuantize`, and how the scale learns."""
        return f"{super().extra_repr()}, use_grad_scaling={self.use_grad_scaling}"

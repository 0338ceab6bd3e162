"""PACT: the clipping threshold is trained with the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nashquant import ops
from nashquant.quantization.observer import MinMaxObserver, ObserverBase, range_from_scale, scale_from_range

from .learned import LearnedFakeQuantize

__all__ = ["PACTFakeQuantize"]


class PACTFakeQuantize(LearnedFakeQuantize):
    """A `FakeQuantize` that clips at a parameter, `alpha`, and has its grid reach just that far (PACT).

    `scale = alpha / ((quant_max - quant_min) / 2)`, and `y` is that of `FakeQuantize`. `grad_x = grad_y` where
    nothing was clamped, `grad_alpha = sum(grad_y)` where the upper end clamped, less `sum(grad_y)` where the lower did.
    Choi et al., "PACT: Parameterized Clipping Activation for Quantized Neural Networks", 2018, whose activations begin
    at 0; a NASH grid is symmetric, and so is the clipping here. The paper holds alpha down by weight decay: give
    `alpha` to the optimizer with one.

    The first alpha is the observer's: see `LearnedFakeQuantize`. A checkpoint of a `FakeQuantize` has no alpha: it is
    taken from the scale.

    >>> quantizer = PACTFakeQuantize(alpha=2.0)
    >>> quantizer(torch.tensor([0.5, 9.0, -3.0, 7.0])).sum().backward()
    >>> quantizer.alpha.grad
    tensor([1.])

    Args:
        observer: chooses the first alpha.
        channel_len: as in `FakeQuantize`.
        alpha: the first alpha, instead of the observer's.
        **observer_kwargs: the arguments of `observer`, except `pow_quantization`.

    Raises:
        TypeError, ValueError: as `FakeQuantize`; a FixedScaleObserver, and powers of two; an alpha that is not positive
            and finite.
    """

    learned = "alpha"
    derived_keys = frozenset({"alpha"})

    def __init__(
        self,
        observer: type[ObserverBase] = MinMaxObserver,
        channel_len: int = 1,
        alpha: float | None = None,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, channel_len, **observer_kwargs)
        self.alpha = nn.Parameter(self._alpha_of_scale())
        if alpha is not None:
            self.set_qparams(alpha / self._steps)

    @property
    def _steps(self) -> float:
        return (self.quant_max - self.quant_min) / 2

    def _alpha_of_scale(self) -> Tensor:
        return range_from_scale(self.scale.detach(), self.quant_min, self.quant_max)[1]

    def _quantize(self, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        if torch.compiler.is_exporting():  # a buffer there, so that it becomes a constant of the graph
            return super()._quantize(x, clamp)
        x = x if clamp is None else clamp.function(x)
        alpha = self._kept_positive()
        self._take_scale(alpha)
        y = super()._quantize(x)
        if not (alpha.requires_grad and torch.is_grad_enabled()):
            return y
        inverse = 1 / self.scale
        if self._per_channel:
            shape = [-1 if i == self.ch_axis % x.dim() else 1 for i in range(x.dim())]
            alpha, inverse = alpha.reshape(shape), inverse.reshape(shape)
        steps = (x.detach() * inverse).round()
        beyond = (steps > self.quant_max).to(y.dtype) - (steps < self.quant_min).to(y.dtype)
        return y + beyond * (alpha - alpha.detach()).to(y.dtype)  # adds 0, which has a gradient

    def _take_scale(self, alpha: Tensor) -> None:
        with torch.no_grad():
            self.scale.copy_(scale_from_range(alpha, alpha, self.quant_min, self.quant_max))

    def set_qparams(self, *args: Any, **kwargs: Any) -> None:
        """As `FakeQuantize.set_qparams`; training goes on from there."""
        super().set_qparams(*args, **kwargs)
        self._take_alpha()

    def refresh_scale(self) -> None:
        """Takes the scale of the observer's range, and alpha with it."""
        super().refresh_scale()
        self._take_alpha()

    def _take_alpha(self) -> None:
        with torch.no_grad():
            self.alpha.copy_(self._alpha_of_scale())

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._take_scale(self._kept_positive())
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        scale = state_dict.get(prefix + "scale")
        if isinstance(scale, Tensor) and prefix + "alpha" not in state_dict:
            alpha = range_from_scale(scale.float().reshape(-1), self.quant_min, self.quant_max)[1]
            state_dict = {**state_dict, prefix + "alpha": alpha}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """As `FakeQuantize`, with the scale that alpha means now."""
        self._take_scale(self._kept_positive())
        return super().extra_repr()

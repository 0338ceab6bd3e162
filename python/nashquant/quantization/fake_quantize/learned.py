"""What the quantizers that train their grid share: it starts from the observer, is a parameter, and stays positive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from typing_extensions import Self

from nashquant import ops
from nashquant.quantization.observer import EPSILON, FixedScaleObserver, MinMaxObserver, ObserverBase

from .module import FakeQuantize

__all__ = ["LearnedFakeQuantize"]


class LearnedFakeQuantize(FakeQuantize):
    """A `FakeQuantize` with one parameter that is trained: `scale` itself, or what it is computed from.

    The observer chooses the first scale: all of CALIBRATION, or the first batch of QAT if there was none. From then on
    the optimizer moves it and the observer does not. Under a compiler nothing is observed while quantizing: calibrate
    or load a checkpoint first. Where several processes train, calibrate first too, or `synchronize_observers`: each
    would start from its own first batch.
    """

    learned: str
    """The name of the parameter."""

    def __init__(
        self, observer: type[ObserverBase] = MinMaxObserver, channel_len: int = 1, **observer_kwargs: Any
    ) -> None:
        if isinstance(observer, type) and issubclass(observer, FixedScaleObserver):
            raise ValueError(f"{type(self).__name__} trains its scale, which a FixedScaleObserver forbids")
        super().__init__(observer, channel_len, **observer_kwargs)
        if self.activation_post_process.pow_quantization:
            raise ValueError(f"{type(self).__name__} trains its scale, which pow_quantization would round")

    def _in_one_call(self, x: Tensor, clamp: ops.Clamp | None) -> None:
        return None

    def _observe(self, x: Tensor) -> None:
        if not self._quantizes or not (is_compiling() or self.has_scale):
            super()._observe(x)

    def set_qparams(self, *args: Any, **kwargs: Any) -> None:
        """As `FakeQuantize.set_qparams`; training goes on from there."""
        with torch.no_grad():
            super().set_qparams(*args, **kwargs)

    def refresh_scale(self) -> None:
        """Takes the scale of the observer's range."""
        with torch.no_grad():
            super().refresh_scale()

    def _kept_positive(self) -> Tensor:
        """The parameter, at least 2**-23 and from there still trained: an optimizer may step across 0."""
        parameter = self._parameters[self.learned]
        assert parameter is not None
        if is_compiling():
            least = EPSILON + (parameter - parameter.detach())  # the difference is 0, and has a gradient
            return torch.where(parameter < EPSILON, least, parameter)
        if not parameter.is_meta and bool((parameter < EPSILON).any()):
            with torch.no_grad():
                parameter.clamp_(min=EPSILON)
        return parameter

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._kept_positive()
        super()._save_to_state_dict(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Moves with `.to(device)`; stays f32, as the buffers do."""
        parameter = self._parameters[self.learned]
        assert parameter is not None
        before = parameter.detach()
        super()._apply(fn, recurse)
        moved = self._parameters[self.learned]
        assert moved is not None
        if moved.dtype != before.dtype:
            moved.data = before.to(moved.device)
        return self

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        parameter = self._parameters[self.learned]
        assert parameter is not None
        if parameter.dtype != torch.float32:  # `assign=True`
            self._parameters[self.learned] = nn.Parameter(parameter.detach().float(), parameter.requires_grad)

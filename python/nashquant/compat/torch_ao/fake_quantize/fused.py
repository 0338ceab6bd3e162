"""Observe, choose the grid and round to it, in one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from nashquant.compat.torch_ao.buffers import set_buffer
from nashquant.compat.torch_ao.functional import fused_moving_avg_obs_fake_quant
from nashquant.compat.torch_ao.namesakes import is_or_is_namesake_of, join_namesakes
from nashquant.compat.torch_ao.observer import (
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
)
from nashquant.compat.torch_ao.observer.qparams import is_symmetric
from nashquant.compat.torch_ao.parity import is_exact

from .module import FakeQuantize

__all__ = ["FusedMovingAvgObsFakeQuantize"]


class FusedMovingAvgObsFakeQuantize(FakeQuantize):
    """As `FakeQuantize` with a moving average, by `torch.fused_moving_avg_obs_fake_quant` and its rule for the scale.

    Takes bf16, f16 and f64 too, unlike torch.ao's.

    Args:
        observer: makes a `MovingAverageMinMaxObserver` or a `MovingAveragePerChannelMinMaxObserver`.
        quant_min: the least integer.
        quant_max: the greatest integer.
        **observer_kwargs: further arguments of the observer.

    Raises:
        AssertionError: as `FakeQuantize`; the observer is another.
    """

    def __init__(
        self,
        observer: Callable[..., Any] = MovingAverageMinMaxObserver,
        quant_min: int = 0,
        quant_max: int = 255,
        **observer_kwargs: Any,
    ) -> None:
        super().__init__(observer, quant_min, quant_max, **observer_kwargs)
        chooser = self.activation_post_process
        if not is_or_is_namesake_of(chooser, MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver):
            raise AssertionError("Fused observer+fake_quant module only works with MovingAverageMinMaxObserver")
        if not is_exact():  # torch's operator wants f32 ranges, whatever the default dtype is
            nn.Module._apply(chooser, Tensor.float)  # type: ignore[no-untyped-call]  # torch has no types here
        self.register_buffer("fake_quant_enabled", torch.tensor([1], dtype=torch.long))
        self.register_buffer("observer_enabled", torch.tensor([1], dtype=torch.long))
        self.is_symmetric_quant = is_symmetric(chooser.qscheme)

    def forward(self, X: Tensor) -> Tensor:
        """Observes `X` if it shall, then fake-quantizes it if it shall."""
        self.read_switches()
        if torch.compiler.is_exporting() and not self._observes:
            return super().forward(X)
        chooser = self.activation_post_process
        if torch.compiler.is_compiling() and self._observes and self.is_per_channel and chooser.min_val.numel() == 0:
            self._make_room(X.shape[self.ch_axis])  # the operator can't resize there
        if self._observes and X.is_meta:
            return super().forward(X)
        # Past `Module.__getattr__`, which takes longer for all of these than the kernel for 1K elements.
        held, own = cast("dict[str, Tensor]", chooser._buffers), cast("dict[str, Tensor]", self._buffers)
        return fused_moving_avg_obs_fake_quant(
            X,
            torch.zeros_like(own["observer_enabled"]) if self._was_observed() else own["observer_enabled"],
            own["fake_quant_enabled"],
            held["min_val"],
            held["max_val"],
            own["scale"],
            own["zero_point"],
            chooser.averaging_constant,
            chooser.quant_min,
            chooser.quant_max,
            self.ch_axis,
            self.is_per_channel,
            self.is_symmetric_quant,
            across_ranks=getattr(chooser, "is_sync_quantize", False),  # torch.ao's have no such setting
        )

    def _make_room(self, channels: int) -> None:
        nothing = self.scale.new_full((channels,), torch.inf)
        set_buffer(self.activation_post_process, "min_val", nothing)
        set_buffer(self.activation_post_process, "max_val", -nothing)
        set_buffer(self, "scale", torch.ones_like(nothing))
        set_buffer(self, "zero_point", torch.zeros_like(nothing))

    def extra_repr(self) -> str:
        """The switches and the grid."""
        grid = self.activation_post_process
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, "
            f"scale={self.scale}, zero_point={self.zero_point}, dtype={self.dtype}, quant_min={grid.quant_min}, "
            f"quant_max={grid.quant_max}, qscheme={self.qscheme}, reduce_range={grid.reduce_range}"
        )


join_namesakes(FusedMovingAvgObsFakeQuantize)

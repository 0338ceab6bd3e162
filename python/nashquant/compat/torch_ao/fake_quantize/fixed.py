"""Fake quantization to a grid that is known beforehand, as that of a sigmoid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from nashquant.compat.torch_ao.namesakes import join_namesakes, namesakes
from nashquant.compat.torch_ao.observer import FixedQParamsObserver
from nashquant.compat.torch_ao.observer.qparams import is_per_tensor

from .module import FakeQuantize

__all__ = ["FixedQParamsFakeQuantize"]


class FixedQParamsFakeQuantize(FakeQuantize):
    """Rounds to the grid of a `FixedQParamsObserver`.

    Raises:
        AssertionError: the observer is another, or not per tensor.
    """

    def __init__(self, observer: Callable[..., Any]) -> None:
        super().__init__(observer=observer)
        chooser = self.activation_post_process
        if type(chooser) not in (FixedQParamsObserver, *namesakes(FixedQParamsObserver)):
            raise AssertionError(f"{type(self).__name__}'s observer must be a {FixedQParamsObserver.__name__}")
        self._observer_ctr = observer
        self.scale = chooser.scale
        self.zero_point = chooser.zero_point
        if not is_per_tensor(self.qscheme):
            raise AssertionError(
                f"Only per tensor quantization is supported FixedQParamsFakeQuantize module, got qscheme:{self.qscheme}"
            )

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # as torch.ao has it
        """As given."""
        return self.scale, self.zero_point

    def extra_repr(self) -> str:
        """The switches and the grid."""
        grid = self.activation_post_process
        return (
            f"fake_quant_enabled={self.fake_quant_enabled}, observer_enabled={self.observer_enabled}, "
            f"scale={self.scale}, zero_point={self.zero_point}, dtype={self.dtype}, quant_min={grid.quant_min}, "
            f"quant_max={grid.quant_max}, qscheme={self.qscheme}"
        )


join_namesakes(FixedQParamsFakeQuantize)

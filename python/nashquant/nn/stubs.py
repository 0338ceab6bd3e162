"""Where the quantized part of a model begins and where it ends. In a float model both do nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from nashquant.quantization.qconfig import QConfig

__all__ = ["DeQuantStub", "QuantStub"]


_LEAST_SCALE = 2.0**-127  # below it, 1 / scale is infinite in f32


class QuantStub(nn.Module):
    """Marks a float tensor that enters the quantized part; one stub per input.

    Args:
        scale: A fixed scale, in real units per step. None: learned by calibration.
        zero_point: Must be None or 0: NASH quantization is symmetric.
        qconfig: How this stub quantizes, whatever the setters say.

    Raises:
        ValueError: `scale` is not finite and positive, or `zero_point` is not 0.
    """

    def __init__(
        self,
        scale: float | Tensor | None = None,
        zero_point: int | None = None,
        qconfig: QConfig | None = None,
    ) -> None:
        super().__init__()
        if isinstance(scale, str) or (isinstance(scale, Tensor) and scale.numel() != 1):
            raise ValueError(f"QuantStub takes one number as scale, not {scale!r}")
        self.scale = None if scale is None else float(scale)
        if self.scale is not None and not (self.scale >= _LEAST_SCALE and math.isfinite(self.scale)):
            raise ValueError(f"QuantStub takes a finite scale above 0, not {self.scale}")
        if zero_point not in (None, 0):
            raise ValueError(f"QuantStub takes zero_point 0 (NASH is symmetric), not {zero_point}")
        self.qconfig = qconfig

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x` back."""
        return x

    def extra_repr(self) -> str:
        """The fixed scale, where there is one."""
        return "" if self.scale is None else f"scale={self.scale}"


class DeQuantStub(nn.Module):
    """Marks a tensor that leaves the quantized part; one stub per output. torch's own is accepted too."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x` back."""
        return x

"""The ops with a weight: each quantizes its weight per output channel, computes, and quantizes its output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization.fake_quantize import FakeQuantize

from ._quantized import Quantized, own_business

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Linear"]


class _Gemm(Quantized):
    weight: Tensor
    weight_fake_quant: FakeQuantize | None

    def quantized_weight(self) -> Tensor:
        """The weight on its grid; the float weight where it has no quantizer."""
        if self.weight_fake_quant is None:
            return self.weight
        weight: Tensor = self.weight_fake_quant(self.weight)
        return weight


class _Conv(_Gemm):
    bias: Tensor | None
    _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]

    def forward(self, x: Tensor) -> Any:
        if self.is_outside(x):
            return self.float_forward(x)
        with own_business():
            return self.finish(self._conv_forward(self.enter(x), self.quantized_weight(), self.bias))


class Conv1d(_Conv, nn.Conv1d):
    """nn.Conv1d with quantizers."""


class Conv2d(_Conv, nn.Conv2d):
    """nn.Conv2d with quantizers."""


class Conv3d(_Conv, nn.Conv3d):
    """nn.Conv3d with quantizers."""


class _ConvTranspose(_Gemm):
    bias: Tensor | None
    function: Callable[..., Tensor]

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Any:
        if self.is_outside(x):
            return self.float_forward(x, output_size)
        own: Any = self
        with own_business():
            x = self.enter(x)
            dims = len(own.kernel_size)
            output_padding = own._output_padding(
                x, output_size, own.stride, own.padding, own.kernel_size, dims, own.dilation
            )
            weight, rest = self.quantized_weight(), (own.stride, own.padding, output_padding, own.groups, own.dilation)
            return self.finish(self.function(x, weight, self.bias, *rest))


class ConvTranspose1d(_ConvTranspose, nn.ConvTranspose1d):
    """nn.ConvTranspose1d with quantizers."""

    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with quantizers."""

    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose, nn.ConvTranspose3d):
    """nn.ConvTranspose3d with quantizers."""

    function = staticmethod(F.conv_transpose3d)


class Linear(_Gemm, nn.Linear):
    """nn.Linear with quantizers."""

    def forward(self, x: Tensor) -> Any:
        """Gives `x @ weight.T + bias` for `x` (..., in_features)."""
        if self.is_outside(x):
            return self.float_forward(x)
        with own_business():
            return self.finish(F.linear(self.enter(x), self.quantized_weight(), self.bias))

"""The ops with a weight: each quantizes its weight per output channel, computes, and quantizes its output."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ...quantization.fake_quantize import FakeQuantize
from ._quantized import Quantized, own_business

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose2d", "Linear"]


class _Gemm(Quantized):
    weight: Tensor
    weight_fake_quant: FakeQuantize | None

    @property
    def quantized_weight(self) -> Tensor:
        """The weight on its grid; the float weight where it has no quantizer."""
        return self.weight if self.weight_fake_quant is None else self.weight_fake_quant(self.weight)


class _Conv(_Gemm):
    def forward(self, x: Tensor) -> Tensor:
        with own_business():
            return self.finish(self._conv_forward(x, self.quantized_weight, self.bias))


class Conv1d(_Conv, nn.Conv1d):
    """nn.Conv1d with quantizers."""


class Conv2d(_Conv, nn.Conv2d):
    """nn.Conv2d with quantizers."""


class Conv3d(_Conv, nn.Conv3d):
    """nn.Conv3d with quantizers."""


class ConvTranspose2d(_Gemm, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with quantizers."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Gives the transposed convolution of `x` (n, c, h, w)."""
        with own_business():
            output_padding = self._output_padding(
                x, output_size, self.stride, self.padding, self.kernel_size, 2, self.dilation
            )
            y = F.conv_transpose2d(
                x,
                self.quantized_weight,
                self.bias,
                self.stride,
                self.padding,
                output_padding,
                self.groups,
                self.dilation,
            )
            return self.finish(y)


class Linear(_Gemm, nn.Linear):
    """nn.Linear with quantizers."""

    def forward(self, x: Tensor) -> Tensor:
        """Gives `x @ weight.T + bias` for `x` (..., in_features)."""
        with own_business():
            return self.finish(F.linear(x, self.quantized_weight, self.bias))

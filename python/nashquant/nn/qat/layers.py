"""The ops without a quantized weight: a float module, then a quantizer. One line each."""

from __future__ import annotations

from torch import nn

from nashquant import ops

from ._quantized import QuantizedOutput

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Embedding",
    "GroupNorm",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "RMSNorm",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Softsign",
    "Tanh",
    "Tanhshrink",
]


class ReLU(QuantizedOutput, nn.ReLU):
    """nn.ReLU with a quantizer."""

    clamp = ops.RELU


class ReLU6(QuantizedOutput, nn.ReLU6):
    """nn.ReLU6 with a quantizer."""

    clamp = ops.RELU6


class Hardtanh(QuantizedOutput, nn.Hardtanh):
    """nn.Hardtanh with a quantizer."""


class Sigmoid(QuantizedOutput, nn.Sigmoid):
    """nn.Sigmoid with a quantizer."""


class Tanh(QuantizedOutput, nn.Tanh):
    """nn.Tanh with a quantizer."""


class GELU(QuantizedOutput, nn.GELU):
    """nn.GELU with a quantizer."""


class SiLU(QuantizedOutput, nn.SiLU):
    """nn.SiLU with a quantizer."""


class Mish(QuantizedOutput, nn.Mish):
    """nn.Mish with a quantizer."""


class ELU(QuantizedOutput, nn.ELU):
    """nn.ELU with a quantizer."""


class CELU(QuantizedOutput, nn.CELU):
    """nn.CELU with a quantizer."""


class SELU(QuantizedOutput, nn.SELU):
    """nn.SELU with a quantizer."""


class Hardswish(QuantizedOutput, nn.Hardswish):
    """nn.Hardswish with a quantizer."""


class Hardsigmoid(QuantizedOutput, nn.Hardsigmoid):
    """nn.Hardsigmoid with a quantizer."""


class LeakyReLU(QuantizedOutput, nn.LeakyReLU):
    """nn.LeakyReLU with a quantizer."""


class LogSigmoid(QuantizedOutput, nn.LogSigmoid):
    """nn.LogSigmoid with a quantizer."""


class Softplus(QuantizedOutput, nn.Softplus):
    """nn.Softplus with a quantizer."""


class Softsign(QuantizedOutput, nn.Softsign):
    """nn.Softsign with a quantizer."""


class Tanhshrink(QuantizedOutput, nn.Tanhshrink):
    """nn.Tanhshrink with a quantizer."""


class PReLU(QuantizedOutput, nn.PReLU):
    """nn.PReLU with a quantizer."""


class GLU(QuantizedOutput, nn.GLU):
    """nn.GLU with a quantizer."""


class Softmax(QuantizedOutput, nn.Softmax):
    """nn.Softmax with a quantizer."""


class LogSoftmax(QuantizedOutput, nn.LogSoftmax):
    """nn.LogSoftmax with a quantizer."""


class LayerNorm(QuantizedOutput, nn.LayerNorm):
    """nn.LayerNorm with a quantizer."""


class GroupNorm(QuantizedOutput, nn.GroupNorm):
    """nn.GroupNorm with a quantizer."""


class InstanceNorm1d(QuantizedOutput, nn.InstanceNorm1d):
    """nn.InstanceNorm1d with a quantizer."""


class InstanceNorm2d(QuantizedOutput, nn.InstanceNorm2d):
    """nn.InstanceNorm2d with a quantizer."""


class InstanceNorm3d(QuantizedOutput, nn.InstanceNorm3d):
    """nn.InstanceNorm3d with a quantizer."""


class RMSNorm(QuantizedOutput, nn.RMSNorm):
    """nn.RMSNorm with a quantizer."""


class BatchNorm1d(QuantizedOutput, nn.BatchNorm1d):
    """nn.BatchNorm1d with a quantizer."""


class BatchNorm2d(QuantizedOutput, nn.BatchNorm2d):
    """nn.BatchNorm2d with a quantizer."""


class BatchNorm3d(QuantizedOutput, nn.BatchNorm3d):
    """nn.BatchNorm3d with a quantizer."""


class AvgPool1d(QuantizedOutput, nn.AvgPool1d):
    """nn.AvgPool1d with a quantizer."""


class AvgPool2d(QuantizedOutput, nn.AvgPool2d):
    """nn.AvgPool2d with a quantizer."""


class AvgPool3d(QuantizedOutput, nn.AvgPool3d):
    """nn.AvgPool3d with a quantizer."""


class AdaptiveAvgPool1d(QuantizedOutput, nn.AdaptiveAvgPool1d):
    """nn.AdaptiveAvgPool1d with a quantizer."""


class AdaptiveAvgPool2d(QuantizedOutput, nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d with a quantizer."""


class AdaptiveAvgPool3d(QuantizedOutput, nn.AdaptiveAvgPool3d):
    """nn.AdaptiveAvgPool3d with a quantizer."""


class Embedding(QuantizedOutput, nn.Embedding):
    """nn.Embedding with a quantizer."""

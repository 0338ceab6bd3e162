"""The ops that carry quantizers, under the names of the float modules they replace."""

from ._quantized import Quantized, QuantizedOutput, is_in_region, mark_region, set_apart
from .batch_norm import freeze_bn_stats, update_bn_stats
from .functional import FloatFunctional, Resample
from .gemm import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, Linear
from .layers import twin
from .layers import twin_named as __getattr__  # all other twins: ReLU, LayerNorm, AvgPool2d, ...
from .stubs import DeQuantStub, QuantStub

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DeQuantStub",
    "FloatFunctional",
    "Linear",
    "QuantStub",
    "Quantized",
    "QuantizedOutput",
    "Resample",
    "__getattr__",
    "freeze_bn_stats",
    "is_in_region",
    "mark_region",
    "set_apart",
    "twin",
    "update_bn_stats",
]

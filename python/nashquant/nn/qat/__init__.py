"""The ops that carry quantizers, under the names of the float modules they replace."""

from . import layers
from ._quantized import Quantized, QuantizedOutput, is_in_region, mark_region
from .functional import FloatFunctional, Resample
from .gemm import Conv1d, Conv2d, Conv3d, ConvTranspose2d, Linear
from .layers import *  # noqa: F403
from .stubs import DeQuantStub, QuantStub

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose2d",
    "DeQuantStub",
    "FloatFunctional",
    "Linear",
    "QuantStub",
    "Quantized",
    "QuantizedOutput",
    "Resample",
    "is_in_region",
    "mark_region",
    *layers.__all__,
]

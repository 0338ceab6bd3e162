"""torch's functions of fake quantization, by nashquant's kernels."""

from __future__ import annotations

from .affine import fake_quantize_per_channel_affine, fake_quantize_per_tensor_affine
from .fused import fused_moving_avg_obs_fake_quant
from .learnable import (
    _fake_quantize_learnable_per_channel_affine,
    _fake_quantize_learnable_per_tensor_affine,
)

__all__ = [
    "_fake_quantize_learnable_per_channel_affine",
    "_fake_quantize_learnable_per_tensor_affine",
    "fake_quantize_per_channel_affine",
    "fake_quantize_per_tensor_affine",
    "fused_moving_avg_obs_fake_quant",
]

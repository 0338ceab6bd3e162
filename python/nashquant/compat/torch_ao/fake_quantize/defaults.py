"""Fake quantizers with the arguments one usually wants, by torch.ao's names."""

from __future__ import annotations

from typing import Any

import torch

from nashquant.compat.torch_ao.observer import (
    HistogramObserver,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    default_fixed_qparams_range_0to1_observer,
    default_fixed_qparams_range_neg1to1_observer,
)

from .fixed import FixedQParamsFakeQuantize
from .fused import FusedMovingAvgObsFakeQuantize
from .module import FakeQuantize

__all__ = [
    "default_affine_fixed_qparams_fake_quant",
    "default_dynamic_fake_quant",
    "default_embedding_fake_quant",
    "default_embedding_fake_quant_4bit",
    "default_fake_quant",
    "default_fixed_qparams_range_0to1_fake_quant",
    "default_fixed_qparams_range_neg1to1_fake_quant",
    "default_fused_act_fake_quant",
    "default_fused_per_channel_wt_fake_quant",
    "default_fused_wt_fake_quant",
    "default_histogram_fake_quant",
    "default_per_channel_weight_fake_quant",
    "default_symmetric_fixed_qparams_fake_quant",
    "default_weight_fake_quant",
    "fused_per_channel_wt_fake_quant_range_neg_127_to_127",
    "fused_wt_fake_quant_range_neg_127_to_127",
]

_MOVING: dict[str, Any] = {"observer": MovingAverageMinMaxObserver}
_MOVING_CHANNELS: dict[str, Any] = {"observer": MovingAveragePerChannelMinMaxObserver}
_UNSIGNED: dict[str, Any] = {"quant_min": 0, "quant_max": 255, "dtype": torch.quint8}
_SIGNED: dict[str, Any] = {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8}
_WITHOUT_128: dict[str, Any] = {"quant_min": -127, "quant_max": 127, "dtype": torch.qint8, "eps": 2**-12}
_SYMMETRIC: dict[str, Any] = {"qscheme": torch.per_tensor_symmetric}
_SYMMETRIC_CHANNELS: dict[str, Any] = {"qscheme": torch.per_channel_symmetric}
_FLOAT_ZERO_POINT: dict[str, Any] = {"qscheme": torch.per_channel_affine_float_qparams, "ch_axis": 0}

default_fake_quant = FakeQuantize.with_args(**_MOVING, **_UNSIGNED, qscheme=torch.per_tensor_affine, reduce_range=True)
default_histogram_fake_quant = FakeQuantize.with_args(
    observer=HistogramObserver, **_UNSIGNED, qscheme=torch.per_tensor_affine, reduce_range=True
)
default_dynamic_fake_quant = FakeQuantize.with_args(**_MOVING, **_UNSIGNED, is_dynamic=True, averaging_constant=1)

default_weight_fake_quant = FakeQuantize.with_args(**_MOVING, **_SIGNED, **_SYMMETRIC, reduce_range=False)
default_per_channel_weight_fake_quant = FakeQuantize.with_args(
    **_MOVING_CHANNELS, **_SIGNED, **_SYMMETRIC_CHANNELS, reduce_range=False, ch_axis=0
)
default_embedding_fake_quant = FakeQuantize.with_args(
    **_MOVING_CHANNELS, **_UNSIGNED, **_FLOAT_ZERO_POINT, averaging_constant=1
)
default_embedding_fake_quant_4bit = FakeQuantize.with_args(
    **_MOVING_CHANNELS, **_FLOAT_ZERO_POINT, dtype=torch.quint4x2, averaging_constant=1
)

default_fixed_qparams_range_neg1to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_neg1to1_observer
)
default_fixed_qparams_range_0to1_fake_quant = FixedQParamsFakeQuantize.with_args(
    observer=default_fixed_qparams_range_0to1_observer
)
default_symmetric_fixed_qparams_fake_quant = default_fixed_qparams_range_neg1to1_fake_quant
default_affine_fixed_qparams_fake_quant = default_fixed_qparams_range_0to1_fake_quant

default_fused_act_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(**_MOVING, **_UNSIGNED)
default_fused_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(**_MOVING, **_SIGNED, **_SYMMETRIC)
default_fused_per_channel_wt_fake_quant = FusedMovingAvgObsFakeQuantize.with_args(
    **_MOVING_CHANNELS, **_SIGNED, **_SYMMETRIC_CHANNELS
)
fused_wt_fake_quant_range_neg_127_to_127 = FusedMovingAvgObsFakeQuantize.with_args(
    **_MOVING, **_WITHOUT_128, **_SYMMETRIC
)
fused_per_channel_wt_fake_quant_range_neg_127_to_127 = FusedMovingAvgObsFakeQuantize.with_args(
    **_MOVING_CHANNELS, **_WITHOUT_128, **_SYMMETRIC_CHANNELS
)

"""Observers with the arguments one usually wants, by torch.ao's names."""

from __future__ import annotations

import torch

from .histogram import HistogramObserver
from .min_max import MinMaxObserver
from .passive import FixedQParamsObserver, PlaceholderObserver, RecordingObserver, ReuseInputObserver
from .per_channel import PerChannelMinMaxObserver

__all__ = [
    "default_affine_fixed_qparams_observer",
    "default_debug_observer",
    "default_dynamic_quant_observer",
    "default_fixed_qparams_range_0to1_observer",
    "default_fixed_qparams_range_neg1to1_observer",
    "default_float_qparams_observer",
    "default_float_qparams_observer_4bit",
    "default_histogram_observer",
    "default_observer",
    "default_per_channel_weight_observer",
    "default_placeholder_observer",
    "default_reuse_input_observer",
    "default_symmetric_fixed_qparams_observer",
    "default_weight_observer",
    "per_channel_weight_observer_range_neg_127_to_127",
    "weight_observer_range_neg_127_to_127",
]

_PER_TENSOR_WEIGHT = {"dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}
_PER_CHANNEL_WEIGHT = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric}
_WITHOUT_128 = {"quant_min": -127, "quant_max": 127, "eps": 2**-12}
_FLOAT_ZERO_POINT = {"qscheme": torch.per_channel_affine_float_qparams, "ch_axis": 0}
_UNSIGNED = {"dtype": torch.quint8, "quant_min": 0, "quant_max": 255}

default_observer = MinMaxObserver.with_args(quant_min=0, quant_max=127)
default_histogram_observer = HistogramObserver.with_args(quant_min=0, quant_max=127)

default_weight_observer = MinMaxObserver.with_args(**_PER_TENSOR_WEIGHT)
weight_observer_range_neg_127_to_127 = MinMaxObserver.with_args(**_PER_TENSOR_WEIGHT, **_WITHOUT_128)
default_per_channel_weight_observer = PerChannelMinMaxObserver.with_args(**_PER_CHANNEL_WEIGHT)
per_channel_weight_observer_range_neg_127_to_127 = PerChannelMinMaxObserver.with_args(
    **_PER_CHANNEL_WEIGHT, **_WITHOUT_128
)

default_float_qparams_observer = PerChannelMinMaxObserver.with_args(dtype=torch.quint8, **_FLOAT_ZERO_POINT)
default_float_qparams_observer_4bit = PerChannelMinMaxObserver.with_args(dtype=torch.quint4x2, **_FLOAT_ZERO_POINT)

default_fixed_qparams_range_neg1to1_observer = FixedQParamsObserver.with_args(
    scale=2.0 / 256.0, zero_point=128, **_UNSIGNED
)
default_fixed_qparams_range_0to1_observer = FixedQParamsObserver.with_args(scale=1.0 / 256.0, zero_point=0, **_UNSIGNED)
default_symmetric_fixed_qparams_observer = default_fixed_qparams_range_neg1to1_observer
default_affine_fixed_qparams_observer = default_fixed_qparams_range_0to1_observer

default_dynamic_quant_observer = PlaceholderObserver.with_args(**_UNSIGNED, is_dynamic=True)
default_placeholder_observer = PlaceholderObserver
default_debug_observer = RecordingObserver
default_reuse_input_observer = ReuseInputObserver

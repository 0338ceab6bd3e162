"""How one op is quantized: as a value, from dtypes, or under the names of the vendor's older API."""

from __future__ import annotations

from nashquant.quantization.observer import FixedScaleObserver, HistogramObserver, MinMaxObserver, MSEObserver

from .legacy import (
    default_calib_8bit_fake_quant_qconfig,
    default_calib_8bit_weight_16bit_act_fake_quant_qconfig,
    default_calib_8bit_weight_32bit_out_fake_quant_qconfig,
    default_qat_8bit_fake_quant_qconfig,
    default_qat_8bit_lsq_quant_qconfig,
    default_qat_8bit_weight_16bit_act_fake_quant_qconfig,
    default_qat_8bit_weight_32bit_out_fake_quant_qconfig,
    get_default_qconfig,
)
from .value import QConfig, activation_spec, dynamic_spec, get_qconfig, weight_spec

__all__ = [
    "FixedScaleObserver",
    "HistogramObserver",
    "MSEObserver",
    "MinMaxObserver",
    "QConfig",
    "activation_spec",
    "default_calib_8bit_fake_quant_qconfig",
    "default_calib_8bit_weight_16bit_act_fake_quant_qconfig",
    "default_calib_8bit_weight_32bit_out_fake_quant_qconfig",
    "default_qat_8bit_fake_quant_qconfig",
    "default_qat_8bit_lsq_quant_qconfig",
    "default_qat_8bit_weight_16bit_act_fake_quant_qconfig",
    "default_qat_8bit_weight_32bit_out_fake_quant_qconfig",
    "dynamic_spec",
    "get_default_qconfig",
    "get_qconfig",
    "weight_spec",
]

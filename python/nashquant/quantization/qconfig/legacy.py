"""QConfigs by name, as the vendor's older API has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nashquant.dtype import qint8, qint16
from nashquant.quantization.fake_quantize import (
    FakeQuantize,
    FakeQuantizeSpec,
    PACTFakeQuantize,
    _LearnableFakeQuantize,
)
from nashquant.quantization.observer import (
    ClipObserver,
    ClipStdObserver,
    FixedScaleObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MSEObserver,
    ObserverBase,
    PercentileObserver,
)

from .value import QConfig

__all__ = [
    "default_calib_8bit_fake_quant_qconfig",
    "default_calib_8bit_weight_16bit_act_fake_quant_qconfig",
    "default_calib_8bit_weight_32bit_out_fake_quant_qconfig",
    "default_qat_8bit_fake_quant_qconfig",
    "default_qat_8bit_lsq_quant_qconfig",
    "default_qat_8bit_weight_16bit_act_fake_quant_qconfig",
    "default_qat_8bit_weight_32bit_out_fake_quant_qconfig",
    "get_default_qconfig",
]

_FAKE_QUANTS: Mapping[str, type[FakeQuantize]] = {
    "fake_quant": FakeQuantize,
    "lsq": _LearnableFakeQuantize,
    "pact": PACTFakeQuantize,
}
_OBSERVERS: Mapping[str, type[ObserverBase]] = {
    "min_max": MinMaxObserver,
    "fixed_scale": FixedScaleObserver,
    "clip": ClipObserver,
    "percentile": PercentileObserver,
    "clip_std": ClipStdObserver,
    "mse": MSEObserver,
    "kl": KLObserver,
    "mix": MixObserver,
}
_PER_TENSOR: Mapping[str, Any] = {"dtype": qint8}
_PER_CHANNEL: Mapping[str, Any] = {
    "dtype": qint8,
    "qscheme": torch.per_channel_symmetric,
    "ch_axis": 0,
    "averaging_constant": 1.0,
}


def get_default_qconfig(
    activation_fake_quant: str | None = "fake_quant",
    weight_fake_quant: str | None = "fake_quant",
    activation_observer: str = "min_max",
    weight_observer: str = "min_max",
    activation_qkwargs: Mapping[str, Any] | None = None,
    weight_qkwargs: Mapping[str, Any] | None = None,
) -> QConfig:
    """A QConfig from names.

    Args:
        activation_fake_quant: "fake_quant", "lsq" (learned scale) or "pact" (learned clipping); None leaves the output
            in high precision.
        weight_fake_quant: likewise; None leaves the weight to the next setter.
        activation_observer: "min_max", "fixed_scale", "clip", "percentile", "clip_std", "mse", "kl" or "mix".
        weight_observer: likewise.
        activation_qkwargs: arguments of the quantizer and the observer, over qint8 per tensor.
        weight_qkwargs: likewise, over qint8 per output channel and averaging_constant 1.

    >>> get_default_qconfig("lsq", activation_qkwargs={"dtype": qint16}).output
    _LearnableFakeQuantize.with_args(observer=MinMaxObserver, dtype=qint16)

    Raises:
        ValueError: an unknown name.
        TypeError: an argument that the quantizer or the observer does not take.
    """
    activation = (activation_fake_quant, activation_observer, {**_PER_TENSOR, **(activation_qkwargs or {})})
    weight = (weight_fake_quant, weight_observer, {**_PER_CHANNEL, **(weight_qkwargs or {})})
    return QConfig(output=_spec("activation", *activation), weight=_spec("weight", *weight))


def _spec(part: str, fake_quant: str | None, observer: str, arguments: dict[str, Any]) -> FakeQuantizeSpec | None:
    for what, name, known in (("fake_quant", fake_quant, _FAKE_QUANTS), ("observer", observer, _OBSERVERS)):
        if name is not None and name not in known:
            raise ValueError(f"{part}_{what} is {name!r}, expected one of {', '.join(map(repr, known))}")
    if fake_quant is None:
        return None
    if observer == "fixed_scale":
        arguments.pop("averaging_constant", None)
    return _FAKE_QUANTS[fake_quant].with_args(observer=_OBSERVERS[observer], **arguments)


_INT16: Mapping[str, Any] = {"dtype": qint16}
_LSQ: Mapping[str, Any] = {"use_grad_scaling": True, "averaging_constant": 1.0}

default_qat_8bit_fake_quant_qconfig = get_default_qconfig()
default_qat_8bit_weight_16bit_act_fake_quant_qconfig = get_default_qconfig(activation_qkwargs=_INT16)
default_qat_8bit_weight_32bit_out_fake_quant_qconfig = get_default_qconfig(activation_fake_quant=None)
default_qat_8bit_lsq_quant_qconfig = get_default_qconfig("lsq", "lsq", activation_qkwargs=_LSQ, weight_qkwargs=_LSQ)

# Which observer the vendor's calibrate with is not public; "mse" is what the setters of qconfig_template take.
default_calib_8bit_fake_quant_qconfig = get_default_qconfig(activation_observer="mse")
default_calib_8bit_weight_16bit_act_fake_quant_qconfig = get_default_qconfig(
    activation_observer="mse", activation_qkwargs=_INT16
)
default_calib_8bit_weight_32bit_out_fake_quant_qconfig = get_default_qconfig(activation_fake_quant=None)

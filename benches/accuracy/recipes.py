"""From a trained float model to a quantized one: by nashquant, and by torch.ao's FX mode."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.ao.quantization as ao
from torch import nn
from torch.ao.quantization import quantize_fx

from nashquant import March, set_march
from nashquant.dtype import QuantDType, qint8, qint16
from nashquant.quantization import FakeQuantState, prepare, set_fake_quantize
from nashquant.quantization.observer import MinMaxObserver, MSEObserver
from nashquant.quantization.qconfig import QConfig, activation_spec, weight_spec
from nashquant.quantization.qconfig_template import HighPrecisionOutputTemplate, TemplateQconfigSetter

from .data import Data
from .training import Tick, show, train


class Budget(NamedTuple):
    """How long to train, and how fast to learn: the same for everybody."""

    float_epochs: int
    float_lr: float
    qat_epochs: int
    qat_lr: float


Recipe = Callable[[nn.Module, Data, Budget, Tick], nn.Module]
"""Gives the quantized model, ready to be asked; calls the tick once for each epoch it trains."""


def _ours(act: QuantDType, weight: QuantDType, *, trained: bool) -> Recipe:
    def setter(observer: Any) -> TemplateQconfigSetter:
        qconfig = QConfig(output=activation_spec(observer, act), weight=weight_spec(weight))
        return TemplateQconfigSetter(qconfig, (HighPrecisionOutputTemplate(),))

    def run(net: nn.Module, data: Data, budget: Budget, tick: Tick) -> nn.Module:
        set_march(March.NASH_E)
        with tempfile.TemporaryDirectory() as folder:
            calibrated = prepare(net, data.train_x[:2], qconfig_setter=(setter(MSEObserver),), save_dir=folder)
            calibrated.eval()
            set_fake_quantize(calibrated, FakeQuantState.CALIBRATION)
            show(calibrated, data)
            if trained:
                model = prepare(net, data.train_x[:2], qconfig_setter=(setter(MinMaxObserver),), save_dir=folder)
                model.load_state_dict(calibrated.state_dict())
                set_fake_quantize(model.train(), FakeQuantState.QAT)
                train(model, data, budget.qat_epochs, budget.qat_lr, tick)
            else:
                model = calibrated
        set_fake_quantize(model.eval(), FakeQuantState.VALIDATION)
        return model

    return run


def _mapping(activation: Any, weight: Any) -> ao.QConfigMapping:
    return ao.get_default_qconfig_mapping("x86").set_global(ao.QConfig(activation=activation, weight=weight))


_OBSERVED = _mapping(ao.HistogramObserver.with_args(reduce_range=False), ao.default_per_channel_weight_observer)
_TRAINED = _mapping(
    ao.FakeQuantize.with_args(observer=ao.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8),
    ao.default_per_channel_weight_fake_quant,
)


def _without_stubs(net: nn.Module) -> nn.Module:
    """A copy that torch.ao may have: its FX mode puts quantizers at the doors itself."""
    net = copy.deepcopy(net)
    net.quant, net.dequant = nn.Identity(), nn.Identity()
    return net


def _torch_ao(*, trained: bool) -> Recipe:
    def run(net: nn.Module, data: Data, budget: Budget, tick: Tick) -> nn.Module:
        net, example = _without_stubs(net), (data.train_x[:2],)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about reduce_range, fixed grids, and torchao's coming
            if trained:
                model = quantize_fx.prepare_qat_fx(net.train(), _TRAINED, example)
                model.eval().apply(ao.disable_fake_quant)
                show(model, data)
                model.train().apply(ao.enable_fake_quant)
                train(model, data, budget.qat_epochs, budget.qat_lr, tick)
                model.eval().apply(ao.disable_observer)
            else:
                model = quantize_fx.prepare_fx(net.eval(), _OBSERVED, example)
                show(model, data)
            return quantize_fx.convert_to_reference_fx(model)

    return run


RECIPES: dict[str, Recipe] = {
    "int8, calibrated": _ours(qint8, qint8, trained=False),
    "int8, trained": _ours(qint8, qint8, trained=True),
    "8w16a, calibrated": _ours(qint16, qint8, trained=False),
    "8w16a, trained": _ours(qint16, qint8, trained=True),
    "int16, calibrated": _ours(qint16, qint16, trained=False),
    "torch.ao int8, calibrated": _torch_ao(trained=False),
    "torch.ao int8, trained": _torch_ao(trained=True),
}

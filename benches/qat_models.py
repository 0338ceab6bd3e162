"""One net, several ways to train it quantized: ours, torch.ao's FX mode, and a copy at every quantizer."""

from __future__ import annotations

import copy
import tempfile
import warnings
from typing import Any

import torch
from benches.sizes import QINT8
from torch import Tensor, nn
from torch.ao.quantization import (
    FakeQuantize as TorchFakeQuantize,
)
from torch.ao.quantization import (
    FakeQuantizeBase,
    FusedMovingAvgObsFakeQuantize,
    MovingAverageMinMaxObserver,
    MovingAveragePerChannelMinMaxObserver,
    QConfig,
    QConfigMapping,
)
from torch.ao.quantization.quantize_fx import prepare_qat_fx

from nashquant import March, set_march
from nashquant.quantization import FakeQuantize, FakeQuantState, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter


class Clone(FakeQuantize):
    """What a quantizer costs that only copies: the limit to approach."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()

    requantize = forward


def ours(net: nn.Module, x: Tensor) -> nn.Module:
    """Prepared with int8 weights and activations, in training."""
    set_march(March.NASH_E)
    with tempfile.TemporaryDirectory() as folder:
        model = prepare(net, x, qconfig_setter=(default_qat_qconfig_setter,), save_dir=folder)
    model.train()
    set_fake_quantize(model, FakeQuantState.QAT)
    return model


def clones(net: nn.Module, x: Tensor) -> nn.Module:
    """As `ours`, every quantizer replaced by a copy."""
    model = ours(net, x)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, FakeQuantize):
                clone = Clone()
                clone.name = child.name
                setattr(module, name, clone)
    return model


def _torch(net: nn.Module, x: Tensor, quantizer: Any) -> nn.Module:
    # FX mode leaves activations in float unless they are quint8.
    activation = quantizer.with_args(
        observer=MovingAverageMinMaxObserver,
        quant_min=0,
        quant_max=255,
        dtype=torch.quint8,
        qscheme=torch.per_tensor_affine,
    )
    weight = quantizer.with_args(
        observer=MovingAveragePerChannelMinMaxObserver,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        averaging_constant=1,
        quant_min=QINT8[0],
        quant_max=QINT8[1],
        dtype=torch.qint8,
    )
    mapping = QConfigMapping().set_global(QConfig(activation=activation, weight=weight))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it talks about backends and reduce_range
        return prepare_qat_fx(copy.deepcopy(net).train(), mapping, (x,))


def torch_ao(net: nn.Module, x: Tensor) -> nn.Module:
    """torch.ao's FX mode with FakeQuantize and moving averages."""
    return _torch(net, x, TorchFakeQuantize)


def torch_ao_fused(net: nn.Module, x: Tensor) -> nn.Module:
    """The same with its fused quantizer."""
    return _torch(net, x, FusedMovingAvgObsFakeQuantize)


def count_quantizers(model: nn.Module) -> int:
    """Everything in it that puts a tensor on a grid."""
    return sum(isinstance(module, (FakeQuantize, FakeQuantizeBase)) for module in model.modules())

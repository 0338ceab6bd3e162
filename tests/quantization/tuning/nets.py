"""A float net with a depthwise convolution, prepared and calibrated in the ways these tests need."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nashquant import set_march
from nashquant.dtype import qint4, qint8
from nashquant.quantization import DeQuantStub, QConfig, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.qconfig import activation_spec, weight_spec
from nashquant.quantization.qconfig_template import TemplateQconfigSetter
from nashquant.quantization.tuning.batches import Batch, outputs, relative_error


class Net(nn.Module):
    """Full, depthwise and pointwise convolution, a linear head; the first with a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.full, self.norm, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.depthwise, self.relu_2 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU()
        self.pointwise, self.relu_3 = nn.Conv2d(8, 12, 1), nn.ReLU()
        self.pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.full(self.quant(x))))
        x = self.relu_3(self.pointwise(self.relu_2(self.depthwise(x))))
        return self.dequant(self.head(self.pool(x).flatten(1)))


def net() -> Net:
    """Always with the same weights, and batch statistics that are not 0 and 1."""
    torch.manual_seed(0)
    made = Net().eval()
    with torch.no_grad():
        made.norm.running_mean.normal_()
        made.norm.running_var.uniform_(0.5, 2.0)
        made.norm.weight.uniform_(0.5, 2.0)
        made.norm.bias.normal_()
    return made


def images(count: int, seed: int = 1) -> list[Tensor]:
    """Batches of 8."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(8, 3, 6, 6, generator=generator) for _ in range(count)]


def prepared(model: nn.Module, bits: int = 8, **observer: Any) -> nn.Module:
    """Weights of so many bits, activations int8."""
    set_march("nash-m")
    grid = qint4 if bits == 4 else qint8  # no march has qint4 weights: it is the range that counts
    qconfig = QConfig(
        output=activation_spec(**{"observer": MinMaxObserver, "dtype": qint8, "averaging_constant": 0.1, **observer}),
        weight=weight_spec(qint8, quant_min=grid.qmin, quant_max=grid.qmax),
    )
    return prepare(model, images(1)[0], TemplateQconfigSetter(qconfig, ()), save_dir=None)


def calibrated(model: nn.Module, data: list[Tensor], bits: int = 8, **observer: Any) -> nn.Module:
    """In VALIDATION."""
    made = prepared(model, bits, **observer)
    set_fake_quantize(made.eval(), "calibration")
    with torch.no_grad():
        for x in data:
            made(x)
    set_fake_quantize(made.eval(), "validation")
    return made


def error(quantized: nn.Module, model: nn.Module, data: list[Tensor]) -> float:
    """Of the output, relative to the float model's."""
    batches = [Batch((x,), {}) for x in data]
    return relative_error(outputs(quantized, batches), outputs(model, batches))

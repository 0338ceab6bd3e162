"""GlobalFakeQuantSwitch: a part of a forward runs unrounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from nashquant import set_march
from nashquant.quantization import DeQuantStub, QuantStub, prepare
from nashquant.quantization.fake_quantize import (
    DynamicFakeQuantize,
    FakeCast,
    FakeQuantize,
    GlobalFakeQuantSwitch,
    _LearnableFakeQuantize,
    set_fake_quantize,
)
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter


@pytest.fixture(autouse=True)
def _on_again() -> Iterator[None]:
    yield
    GlobalFakeQuantSwitch.enable()
    FakeCast.enable()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.backbone, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.head_is_float = False

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sigmoid(self.backbone(self.quant(x)))
        if self.head_is_float:
            GlobalFakeQuantSwitch.disable()
        x = torch.sigmoid(self.head(x))
        GlobalFakeQuantSwitch.enable()
        return self.dequant(x)


def calibrated(x: Tensor) -> nn.Module:
    set_march("nash-m")
    model = prepare(Net().eval(), x, default_calibration_qconfig_setter, save_dir=None)
    set_fake_quantize(model, "calibration")
    with torch.no_grad():
        model(x)
    set_fake_quantize(model.eval(), "validation")
    return model


def test_what_lies_between_disable_and_enable_is_float() -> None:
    x = torch.randn(8, 4)
    model = calibrated(x)
    with torch.no_grad():
        quantized = model(x)
        model.head_is_float = True
        stepwise = model(x)
        model.head_is_float = False
        set_fake_quantize(model.head, "float")
        set_fake_quantize(model._generated_sigmoid_1, "float")
        expected = model(x)
    assert torch.equal(stepwise, expected)
    assert not torch.equal(stepwise, quantized)


@pytest.mark.parametrize("quantizer", [FakeQuantize(), DynamicFakeQuantize(), _LearnableFakeQuantize()])
@pytest.mark.parametrize("training", [True, False])
def test_every_quantizer_obeys_and_still_observes(quantizer: FakeQuantize, training: bool) -> None:
    quantizer.train(training).set_qparams(0.5)
    x = torch.tensor([0.3, 40.0])
    GlobalFakeQuantSwitch.disable()
    assert torch.equal(quantizer(x), x)
    assert torch.equal(quantizer.requantize(x), x)
    GlobalFakeQuantSwitch.enable()
    assert not torch.equal(quantizer(x), x)


def test_observers_go_on_while_it_is_off() -> None:
    quantizer = FakeQuantize()
    GlobalFakeQuantSwitch.disable()
    quantizer(torch.tensor([127.5]))
    assert quantizer.scale.item() == 1.0
    assert quantizer.has_scale


def test_a_compiled_quantizer_obeys_too() -> None:
    torch._dynamo.reset()
    quantizer = FakeQuantize().eval()
    quantizer.set_qparams(0.5)
    run = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    x = torch.tensor([0.3])
    assert run(x).item() == 0.5
    GlobalFakeQuantSwitch.disable()
    assert torch.equal(run(x), x)


@pytest.mark.parametrize("switch", [GlobalFakeQuantSwitch, FakeCast])
def test_export_refuses_a_model_that_is_switched_off(switch: type) -> None:
    x = torch.randn(8, 4)
    model = calibrated(x)
    switch.disable()
    with pytest.raises(RuntimeError, match=rf"{switch.__name__} has switched them off: call {switch.__name__}\.enable"):
        export(model, x)

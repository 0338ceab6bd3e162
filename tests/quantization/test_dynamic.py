"""A scale from each tensor."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nashquant.dtype import qint4, qint16
from nashquant.quantization import DeQuantStub, QconfigSetter, QuantStub, get_qconfig, prepare, qint8
from nashquant.quantization.fake_quantize import DynamicFakeQuantize, FakeQuantize, set_fake_quantize, unset_scales
from nashquant.quantization.observer import (
    FixedScaleObserver,
    HistogramObserver,
    MinMaxObserver,
    MSEObserver,
    PercentileObserver,
)
from nashquant.quantization.qconfig_setter import ModuleNameTemplate, SetDynamicQuantTemplate


def fresh(**arguments: object) -> FakeQuantize:
    return FakeQuantize(averaging_constant=1.0, **arguments)


@pytest.mark.parametrize("observer", [MinMaxObserver, MSEObserver, PercentileObserver])
@pytest.mark.parametrize("training", [True, False])
def test_each_tensor_is_quantized_as_by_an_observer_that_saw_only_it(observer: type, training: bool) -> None:
    dynamic = DynamicFakeQuantize(observer=observer, dtype=qint4).train(training)
    dynamic.disable_observer()
    for size in (1.0, 100.0, 1e-3):
        x = torch.randn(2, 30) * size
        assert torch.equal(dynamic(x), fresh(observer=observer, dtype=qint4)(x))


def test_a_scale_for_each_channel() -> None:
    arguments = {"qscheme": torch.per_channel_symmetric, "ch_axis": 1, "channel_len": 3, "dtype": qint16}
    x = torch.randn(5, 3) * torch.tensor([1.0, 10.0, 0.1])
    dynamic = DynamicFakeQuantize(**arguments)
    assert torch.equal(dynamic(x), fresh(**arguments)(x))
    assert dynamic.scale.numel() == 3


def test_the_gradient_passes_inside_the_grid() -> None:
    x = torch.tensor([-127.5, 3.2, 127.5], requires_grad=True)
    DynamicFakeQuantize()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 0.0]  # 127.5 steps round to 128, which the grid has not


def test_nothing_is_left_to_calibrate_or_to_warn_about() -> None:
    model = nn.Sequential(DynamicFakeQuantize())
    assert unset_scales(model) == []
    x = torch.randn(9)
    set_fake_quantize(model, "calibration")
    assert torch.equal(model(x), x)
    set_fake_quantize(model.eval(), "validation")
    assert not torch.equal(model(x), x)


def test_compiled_is_eager() -> None:
    torch._dynamo.reset()
    dynamic = DynamicFakeQuantize()
    run = torch.compile(dynamic, fullgraph=True, backend="aot_eager")
    for size in (1.0, 50.0):
        x = torch.randn(40) * size
        assert torch.equal(run(x), fresh()(x))


def test_what_is_not_dynamic_is_refused() -> None:
    for observer, arguments in ((HistogramObserver, {}), (FixedScaleObserver, {"scale": 1.0})):
        with pytest.raises(ValueError, match=f"from each tensor alone, which {observer.__name__} doesn't"):
            DynamicFakeQuantize(observer=observer, **arguments)
    with pytest.raises(ValueError, match=r"averaging_constant is 0\.5, but DynamicFakeQuantize remembers nothing"):
        DynamicFakeQuantize(averaging_constant=0.5)
    with pytest.raises(ValueError, match="x has 1 NaN or infinite values"):
        DynamicFakeQuantize()(torch.tensor([1.0, torch.nan]))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.act, self.head = nn.Conv2d(3, 4, 3), nn.Sigmoid(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.head(self.act(self.conv(self.quant(x))).mean((2, 3))))


def test_a_template_makes_outputs_dynamic() -> None:
    from nashquant import set_march

    set_march("nash-m")
    x = torch.randn(2, 3, 5, 5)
    templates = [ModuleNameTemplate({"": qint8, "conv": {"dtype": qint8, "threshold": 4.0}})]
    templates += [SetDynamicQuantTemplate(["conv", "act"])]
    model = prepare(Net().eval(), x, QconfigSetter(get_qconfig(), templates), save_dir=None)
    assert type(model.act.activation_post_process) is DynamicFakeQuantize
    assert type(model.quant.activation_post_process) is FakeQuantize
    assert type(model.conv.activation_post_process) is FakeQuantize  # a threshold is a scale of its own
    set_fake_quantize(model.eval(), "calibration")
    with torch.no_grad():
        model(x)
        set_fake_quantize(model.eval(), "validation")
        small, large = model(x / 100), model(x)
    assert not torch.equal(small, large)


def test_a_template_that_names_nothing_is_an_error() -> None:
    from nashquant import set_march

    set_march("nash-m")
    setter = QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8}), SetDynamicQuantTemplate(["hed"])])
    with pytest.raises(ValueError, match=r"SetDynamicQuantTemplate names 'hed', which is no op of the model.*'head'"):
        prepare(Net().eval(), torch.randn(2, 3, 5, 5), setter, save_dir=None)


def test_it_cannot_be_exported() -> None:
    from nashquant import set_march
    from nashquant.quantization.hbdk4 import export

    set_march("nash-m")
    x = torch.randn(2, 3, 5, 5)
    setter = QconfigSetter(get_qconfig(), [ModuleNameTemplate({"": qint8}), SetDynamicQuantTemplate("act")])
    model = prepare(Net().eval(), x, setter, save_dir=None)
    set_fake_quantize(model.eval(), "calibration")
    with torch.no_grad():
        model(x)
    set_fake_quantize(model.eval(), "validation")
    with pytest.raises(ValueError, match=r"taken from each tensor cannot be exported.*'act\.activation_post_process'"):
        export(model, x)

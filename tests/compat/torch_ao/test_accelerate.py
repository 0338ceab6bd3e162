"""A model that torch.ao prepared gets our quantizers, and computes what it computed."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.ao.quantization as ao
from torch import nn
from torch.ao.quantization import quantize_fx

from nashquant.compat import torch_ao
from nashquant.compat.torch_ao import accelerate

pytestmark = pytest.mark.filterwarnings(
    "ignore:Please use quant_min and quant_max",
    "ignore:must run observer",
    "ignore:.*reduce_range.*",
    "ignore:torch.quantize_per_tensor, torch.quantize_per_channel",
)
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def prepared(backend: str = "x86", version: int = 1) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(ao.QuantStub(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.Sigmoid(), ao.DeQuantStub())
    model.train().qconfig = ao.get_default_qat_qconfig(backend, version=version)
    return ao.prepare_qat(model)


def train(model: nn.Module, steps: int = 3) -> list[torch.Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    outputs = []
    for step in range(steps):
        y = model(X + step)
        optimizer.zero_grad()
        y.square().sum().backward()
        optimizer.step()
        outputs.append(y.detach().clone())
    return outputs


@pytest.mark.parametrize("version", [0, 1])
def test_training_goes_on_as_if_nothing_had_happened(version, assert_same_state) -> None:
    model = prepared(version=version)
    train(model)
    model[1].activation_post_process.disable_observer()
    other = copy.deepcopy(model)
    assert accelerate(other) is other
    assert_same_state(model, other)
    for expected, got in zip(train(model), train(other), strict=True):
        assert torch.equal(got, expected)
    assert_same_state(model, other)
    assert torch.equal(ao.convert(other.eval())(X), ao.convert(model.eval())(X))


def test_a_traced_model_is_accelerated_and_converted(assert_same_state) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).train()
    model = quantize_fx.prepare_qat_fx(model, ao.get_default_qat_qconfig_mapping("x86"), (X,))
    model(X)
    other = accelerate(copy.deepcopy(model))
    for expected, got in zip(train(model), train(other), strict=True):
        assert torch.equal(got, expected)
    assert_same_state(model, other)
    assert torch.equal(quantize_fx.convert_fx(other.eval())(X), quantize_fx.convert_fx(model.eval())(X))


def test_everything_of_torch_ao_becomes_ours() -> None:
    model = accelerate(prepared())
    kinds = {type(m) for m in model.modules() if isinstance(m, ao.FakeQuantizeBase | ao.ObserverBase)}
    assert kinds == {
        torch_ao.FusedMovingAvgObsFakeQuantize,
        torch_ao.FixedQParamsFakeQuantize,
        torch_ao.MovingAverageMinMaxObserver,
        torch_ao.MovingAveragePerChannelMinMaxObserver,
        torch_ao.FixedQParamsObserver,
    }


def test_quantizers_stay_the_objects_they_were() -> None:
    model = prepared()
    quantizer = model[1].weight_fake_quant
    scale = quantizer.scale
    calls = []
    quantizer.register_forward_hook(lambda *_: calls.append(1))
    accelerate(model)(X)
    assert model[1].weight_fake_quant is quantizer
    assert quantizer.scale is scale
    assert calls == [1]


def test_calibration_observers_are_replaced_too(assert_same_state) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5)).eval()
    model.qconfig = ao.get_default_qconfig("x86")
    model = ao.prepare(model)
    model(X)
    other = accelerate(copy.deepcopy(model))
    model(X * 3)
    other(X * 3)
    assert isinstance(other[0].activation_post_process, torch_ao.HistogramObserver)
    assert_same_state(model, other)


def test_a_class_that_somebody_derived_is_left_alone() -> None:
    class Mine(ao.FakeQuantize):
        pass

    model = accelerate(nn.Sequential(Mine(), ao.FakeQuantize()))
    assert type(model[0]) is Mine
    assert type(model[1]) is torch_ao.FakeQuantize


def test_twice_is_once() -> None:
    model = accelerate(accelerate(nn.Sequential(ao.FakeQuantize())))
    assert type(model[0]) is torch_ao.FakeQuantize


def test_nothing_to_replace_is_an_error() -> None:
    with pytest.raises(ValueError, match="this Linear has no fake quantizer or observer"):
        accelerate(nn.Linear(2, 2))

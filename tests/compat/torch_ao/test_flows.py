"""torch.ao's own prepare and convert, with our classes in its QConfigs: the training and the result are the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.ao.quantization as ao
from torch import Tensor, nn
from torch.ao.quantization import quantize_fx

from nashquant.compat import torch_ao

pytestmark = [
    pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max", "ignore:must run observer"),
    pytest.mark.filterwarnings("ignore:QConfig must specify a FixedQParams", "ignore:.*reduce_range.*"),
    # torch's own quantized tensors
    pytest.mark.filterwarnings("ignore::UserWarning:torch.*"),
]
BATCHES = [torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(i)) for i in range(3)]
X = BATCHES[0]


class Net(nn.Module):
    """Conv-bn-relu, a residual, a fixed-grid op and a linear; with stubs, for the eager flow."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = ao.QuantStub(), ao.DeQuantStub()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.conv2, self.sigmoid, self.fc = nn.Conv2d(8, 8, 1), nn.Sigmoid(), nn.Linear(8, 4)
        self.plus = nn.quantized.FloatFunctional()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn(self.conv(self.quant(x))))
        y = self.sigmoid(self.plus.add(self.conv2(y), y))
        return self.dequant(self.fc(y.reshape(y.shape[0], 8, -1).mean(2)))


class Traced(Net):
    """The same as torch.fx likes it."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn(self.conv(x)))
        y = self.sigmoid(self.conv2(y) + y)
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(y, 1), 1))


def plain(home: ModuleType) -> ao.QConfig:
    activation = home.FakeQuantize.with_args(
        observer=home.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, reduce_range=True
    )
    return ao.QConfig(activation=activation, weight=home.default_per_channel_weight_fake_quant)


def fused(home: ModuleType) -> ao.QConfig:
    activation = home.FusedMovingAvgObsFakeQuantize.with_args(
        observer=home.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, reduce_range=True
    )
    return ao.QConfig(activation=activation, weight=home.default_fused_per_channel_wt_fake_quant)


def histogram(home: ModuleType) -> ao.QConfig:
    activation = home.HistogramObserver.with_args(reduce_range=True, bins=256)
    return ao.QConfig(activation=activation, weight=home.default_per_channel_weight_observer)


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def train(model: nn.Module) -> list[Tensor]:
    optimizer = torch.optim.SGD(model.train().parameters(), 0.05)
    outputs = []
    for x in BATCHES:
        y = model(x)
        outputs.append(y.detach().clone())
        optimizer.zero_grad()
        y.square().sum().backward()
        optimizer.step()
    model.eval()
    return outputs


def prepared_by_eager(qconfig: ao.QConfig) -> nn.Module:
    model = seeded(Net).train()
    model.qconfig = qconfig
    model = ao.fuse_modules_qat(model, [["conv", "bn", "relu"]])
    return ao.prepare_qat(model)


def prepared_by_fx(qconfig: ao.QConfig) -> nn.Module:
    return quantize_fx.prepare_qat_fx(
        seeded(Traced).train(), ao.QConfigMapping().set_global(qconfig), example_inputs=(X,)
    )


def of_ours(model: nn.Module) -> int:
    return sum(isinstance(m, torch_ao.FakeQuantizeBase | torch_ao.ObserverBase) for m in model.modules())


def compare(run: Callable[[Any], tuple[nn.Module, list[Tensor]]], assert_same_state: Any) -> None:
    theirs, expected = run(ao)
    mine, got = run(torch_ao)
    assert of_ours(theirs) == 0
    assert of_ours(mine) >= 5
    assert_same_state(theirs, mine)
    for e, g in zip(expected, got, strict=True):
        assert torch.equal(g, e)


@pytest.mark.parametrize("qconfig", [plain, fused])
def test_prepare_qat_and_convert(qconfig, assert_same_state) -> None:
    def run(home: ModuleType) -> tuple[nn.Module, list[Tensor]]:
        model = prepared_by_eager(qconfig(home))
        outputs = train(model)
        return model, [*outputs, model(X).detach(), ao.convert(model)(X)]

    compare(run, assert_same_state)


@pytest.mark.parametrize("qconfig", [plain, fused])
def test_prepare_qat_fx_and_convert_fx(qconfig, assert_same_state) -> None:
    def run(home: ModuleType) -> tuple[nn.Module, list[Tensor]]:
        model = prepared_by_fx(qconfig(home))
        outputs = train(model)
        reference = quantize_fx.convert_to_reference_fx(copy.deepcopy(model))
        return model, [*outputs, reference(X).detach(), quantize_fx.convert_fx(copy.deepcopy(model))(X).detach()]

    compare(run, assert_same_state)


def test_prepare_and_convert_after_calibration(assert_same_state) -> None:
    def run(home: ModuleType) -> tuple[nn.Module, list[Tensor]]:
        model = seeded(Net).eval()
        model.qconfig = histogram(home)
        model = ao.prepare(ao.fuse_modules(model, [["conv", "bn", "relu"]]))
        outputs = [model(x).detach() for x in BATCHES]
        return model, [*outputs, ao.convert(model)(X)]

    compare(run, assert_same_state)


def test_prepare_fx_and_convert_fx_after_calibration(assert_same_state) -> None:
    def run(home: ModuleType) -> tuple[nn.Module, list[Tensor]]:
        mapping = ao.QConfigMapping().set_global(histogram(home))
        model = quantize_fx.prepare_fx(seeded(Traced).eval(), mapping, example_inputs=(X,))
        outputs = [model(x).detach() for x in BATCHES]
        return model, [*outputs, quantize_fx.convert_fx(copy.deepcopy(model))(X).detach()]

    compare(run, assert_same_state)


def test_a_fixed_grid_satisfies_the_backend(recwarn: pytest.WarningsRecorder) -> None:
    mapping = ao.QConfigMapping().set_global(plain(torch_ao))
    fixed = ao.QConfig(
        activation=torch_ao.default_fixed_qparams_range_0to1_fake_quant, weight=torch_ao.default_weight_fake_quant
    )
    model = quantize_fx.prepare_qat_fx(seeded(Traced).train(), mapping.set_object_type(nn.Sigmoid, fixed), (X,))
    assert any(isinstance(module, torch_ao.FixedQParamsFakeQuantize) for module in model.modules())


def test_observers_go_to_the_device_of_their_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2)).to("meta")
    model.qconfig = ao.QConfig(activation=torch_ao.default_observer, weight=torch_ao.default_weight_observer)
    prepared = ao.prepare(model)
    observers = [module for module in prepared.modules() if isinstance(module, torch_ao.ObserverBase)]
    assert observers
    assert all(observer.min_val.is_meta for observer in observers)


@pytest.mark.filterwarnings("ignore")  # torchao's own
@pytest.mark.parametrize("of", ["FakeQuantize", "FusedMovingAvgObsFakeQuantize"])
def test_pt2e_takes_them_too(of, assert_same_state) -> None:
    pytest.importorskip("torchao", reason="the PT2E flow left torch for the package torchao")
    from torchao.quantization.pt2e import fake_quantize as there
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_qat_pt2e
    from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

    class OfHome(Quantizer):
        def __init__(self, home: Any) -> None:
            make = getattr(home, of)
            self.act = QuantizationSpec(
                torch.int8, make.with_args(eps=2**-12), -128, 127, torch.per_tensor_affine, is_dynamic=False
            )
            self.weight = QuantizationSpec(
                torch.int8, make.with_args(eps=2**-12), -127, 127, torch.per_tensor_symmetric, is_dynamic=False
            )

        def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
            for node in model.graph.nodes:
                if node.target == torch.ops.aten.linear.default:
                    inputs = {node.args[0]: self.act, node.args[1]: self.weight}
                    node.meta["quantization_annotation"] = QuantizationAnnotation(
                        input_qspec_map=inputs, output_qspec=self.act, _annotated=True
                    )
            return model

        def validate(self, model: torch.fx.GraphModule) -> None:
            pass

    def run(home: Any) -> tuple[nn.Module, list[Tensor]]:
        torch.manual_seed(0)
        x = torch.randn(4, 6)
        graph = torch.export.export(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), (x,)).module()
        model = prepare_qat_pt2e(graph, OfHome(home))
        outputs = [model(x + i).detach() for i in range(3)]
        return model, [*outputs, convert_pt2e(copy.deepcopy(model))(x).detach()]

    theirs, expected = run(there)
    mine, got = run(torch_ao)
    assert (of_ours(theirs), of_ours(mine)) == (0, 12)
    assert_same_state(theirs, mine)
    for e, g in zip(expected, got, strict=True):
        assert torch.equal(g, e)

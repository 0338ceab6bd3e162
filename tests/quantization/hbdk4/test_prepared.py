"""Models that `prepare` made: redirected calls, swapped classes, fused modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import (
    DeQuantStub,
    FakeQuantize,
    FakeQuantState,
    QConfig,
    QconfigSetter,
    QuantStub,
    get_qconfig,
    prepare,
    qint8,
    qint16,
    set_fake_quantize,
)
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.observer import FixedScaleObserver
from nashquant.quantization.qconfig_setter import ConvDtypeTemplate, MatmulDtypeTemplate, ModuleNameTemplate
from nashquant.quantization.qconfig_template import ModuleNameQconfigSetter, default_calibration_qconfig_setter

from .small_models import initializer, nodes, operators, run


def calibrated(model: nn.Module, inputs: tuple[Tensor, ...], *setters: object, folder: Path) -> nn.Module:
    prepared = prepare(model.eval(), inputs, (*setters, default_calibration_qconfig_setter), save_dir=str(folder))
    prepared.eval()
    set_fake_quantize(prepared, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        prepared(*inputs)
    prepared.eval()
    set_fake_quantize(prepared, FakeQuantState.VALIDATION)
    return prepared


class AddNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant_x, self.quant_y, self.dequant = QuantStub(), QuantStub(), DeQuantStub()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.dequant(torch.add(self.quant_x(x), self.quant_y(y)))


def fixed(scale: float) -> QConfig:
    return QConfig(output=FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=scale))


@pytest.mark.filterwarnings("ignore:.*high precision.*")
def test_a_redirected_call_takes_its_quantizer_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x, y = torch.randn(1, 1, 2, 6), torch.randn(1, 2, 2, 6)
    names = {"quant_x": fixed(0.03125), "quant_y": fixed(0.03125), "_generated_add_0": fixed(0.0625)}
    model = calibrated(AddNet(), (x, y), ModuleNameQconfigSetter(names), folder=tmp_path)
    exported = export(model, (x, y))

    assert exported.path == Path("AddNet.onnx").absolute()
    assert exported.quantizers == tuple(f"{name}.activation_post_process" for name in names)
    assert initializer(exported, "_generated_add_0.activation_post_process.scale") == ("FLOAT", 0.0625)
    assert operators(exported).count("Add") == 1
    # Powers of two: dividing by them is multiplying by their inverse, so every bit agrees.
    assert exported.agreement is not None
    assert exported.agreement.worst[1] == 0.0
    (z,) = run(exported, x, y)
    assert torch.equal(z, model(x, y))
    assert torch.equal(z * 16, (z * 16).round())


class Residual(nn.Module):
    """Everything that fuses, and a head in high precision."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x = self.stem(self.quant(image))
        x = F.relu(self.bn(self.conv(x)) + x)
        x = F.max_pool2d(x, 2)
        return {"scores": self.dequant(self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1)))}


def test_a_residual_net_agrees_within_steps(tmp_path: Path) -> None:
    image = torch.randn(2, 3, 8, 8)
    model = calibrated(Residual(), (image,), folder=tmp_path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    exported = export(model, image, path=tmp_path / "m.onnx", dynamic_shapes=({0: torch.export.Dim("images")},))

    assert exported.model.graph.output[0].name == "output.scores"
    assert len(nodes(exported, "Conv")) == 2
    assert "BatchNormalization" not in operators(exported)
    stored = [initializer(exported, each.name)[0] for each in exported.model.graph.initializer]
    assert stored.count("INT8") >= 3
    assert exported.agreement is not None
    assert exported.agreement.worst[1] < 2.01
    more = torch.randn(7, 3, 8, 8)
    with torch.no_grad():
        expected = model(more)["scores"]
    # A head in high precision: a step more or less in front of it is little of its range.
    difference = (run(exported, more)[0] - expected).abs().max() / expected.abs().max()
    assert float(difference) < 1 / 64
    assert [module.training for module in model.modules()] == modes
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    model(more)  # still the Python model it was


class Forked(nn.Module):
    """What the convs and the matmul ask for in int8 is read by others in int16."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.conv = QuantStub(), DeQuantStub(), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.quant(x).sigmoid()
        y = x.tanh()
        return self.dequant(self.conv(x)), self.dequant(torch.matmul(y, y) * y)


@pytest.mark.filterwarnings("ignore:.*high precision.*")
def test_inputs_requantized_at_the_door_are_nodes_of_their_own(tmp_path: Path) -> None:
    x = torch.randn(2, 4, 6, 6)
    templates = [
        ModuleNameTemplate({"": qint16}),
        ConvDtypeTemplate(qint8, qint8),
        MatmulDtypeTemplate([qint8, qint16]),
    ]
    setter = QconfigSetter(get_qconfig(), templates)
    model = prepare(Forked().eval(), x, setter, save_dir=None)
    set_fake_quantize(model.eval(), FakeQuantState.CALIBRATION)
    with torch.no_grad():
        model(x)
    set_fake_quantize(model.eval(), FakeQuantState.VALIDATION)
    exported = export(model, x, path=tmp_path / "forked.onnx")
    assert {"conv.input_fake_quant", "_generated_matmul_0.operand_fake_quant.0"} <= set(exported.quantizers)
    assert exported.agreement is not None
    for got, wanted in zip(run(exported, x), model(x), strict=True):
        torch.testing.assert_close(got, wanted, atol=0.01, rtol=0.01)


class WithErf(nn.Module):
    """An op between the stubs that nashquant does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.conv = QuantStub(), DeQuantStub(), nn.Conv2d(2, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(torch.special.expit(self.conv(self.quant(x))))


@pytest.mark.filterwarnings("ignore::nashquant.quantization.UnknownOpWarning", "ignore:.*high precision.*")
def test_ops_in_floating_point_are_named_and_lost_quantizers_refused(tmp_path: Path) -> None:
    x = torch.randn(2, 2, 4, 4)
    model = calibrated(WithErf(), (x,), folder=tmp_path)
    exported = export(model, x, path=tmp_path / "m.onnx")
    assert len(exported.float_ops) == 1
    assert f"in floating point: {exported.float_ops[0]};" in repr(exported)

    model.quant.activation_post_process = None  # float inside the stubs, and nobody said so
    with pytest.raises(ValueError, match="'quant' was prepared to give qint8, but has no quantizer any more"):
        export(model, x, path=tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()

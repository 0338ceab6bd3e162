"""Quantized weights are integers in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import ops
from nashquant.dtype import QuantDType, qint4, qint8, qint16
from nashquant.quantization.hbdk4 import export

from .small_models import OneQuantizer, QuantizedLinear, initializer, nodes, operators, quantizer, run


@pytest.mark.parametrize(
    ("dtype", "stored", "high", "low"),
    [(qint4, "INT4", 7, -8), (qint8, "INT8", 127, -128), (qint16, "INT16", 32767, -32768)],
)
def test_integers_per_channel(dtype: QuantDType, stored: str, high: int, low: int, tmp_path: Path) -> None:
    # Steps 1.5 and 0.5 are ties; 3 / 0.1 in floats is a little off 30, and 0.3 / 0.1 off 3.
    weight = torch.tensor([[0.375, 0.125, -1.0], [0.3, 1e9, -1e9]])
    model = QuantizedLinear(weight, quantizer([0.25, 0.1], dtype, ch_axis=0))
    exported = export(model.eval(), torch.ones(1, 3), path=tmp_path / "m.onnx")

    found, integers = initializer(exported, "weight")
    assert (found, integers.tolist()) == (stored, [[2, 0, -4], [3, high, low]])
    assert "QuantizeLinear" not in operators(exported)
    (dequantize,) = nodes(exported, "DequantizeLinear")
    assert list(dequantize.input)[:2] == ["weight", "weight_fake_quant.scale"]
    assert [(each.name, each.i) for each in dequantize.attribute] == [("axis", 0)]


def test_integers_per_tensor(tmp_path: Path) -> None:
    model = QuantizedLinear(torch.tensor([[0.5, -0.26], [99.0, 0.0]]), quantizer(0.25))
    exported = export(model.eval(), torch.ones(1, 2), path=tmp_path / "m.onnx")
    found, integers = initializer(exported, "weight")
    assert (found, integers.tolist()) == ("INT8", [[2, -1], [127, 0]])


@pytest.mark.parametrize("dtype", [qint8, qint16])
def test_dequantized_they_are_the_models_weight_to_the_bit(dtype: QuantDType, tmp_path: Path) -> None:
    weight = torch.randn(64, 300)
    scales = (weight.abs().amax(1) / ((dtype.qmax - dtype.qmin) / 2)).tolist()
    model = QuantizedLinear(weight, quantizer(scales, dtype, ch_axis=0))
    exported = export(model.eval(), torch.ones(1, 300), path=tmp_path / "m.onnx", verify=False)
    integers = initializer(exported, "weight")[1].astype(np.float32)
    scale = initializer(exported, "weight_fake_quant.scale")[1].astype(np.float32)
    with torch.no_grad():
        expected = model.weight_fake_quant(model.weight).numpy()
    np.testing.assert_array_equal(integers * scale[:, None], expected)


class Scaled(nn.Module):
    """A weight that is computed, as with a batch norm that is folded while running."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -2.0]]))
        self.gamma = nn.Parameter(torch.tensor([[0.5]]))
        self.quant = quantizer(0.25)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.quant(self.weight * self.gamma))


def test_a_weight_that_is_computed_is_computed_once(tmp_path: Path) -> None:
    exported = export(Scaled().eval(), torch.ones(1, 2), path=tmp_path / "m.onnx")
    found, integers = initializer(exported, "quant.integers")
    assert (found, integers.tolist()) == ("INT8", [[2, -4]])
    assert {"Mul", "QuantizeLinear"}.isdisjoint(operators(exported))
    assert {each.name for each in exported.model.graph.initializer}.isdisjoint({"weight", "gamma"})


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = QuantizedLinear(torch.tensor([[1.0, -2.0], [0.5, 0.5]]), quantizer(0.25))
        self.other = quantizer(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.linear(self.linear(x)), self.other(self.linear.weight))


def test_a_weight_used_twice_is_stored_once_for_each_quantizer(tmp_path: Path) -> None:
    exported = export(Shared().eval(), torch.ones(1, 2), path=tmp_path / "m.onnx")
    stored = {name: initializer(exported, name) for name in ("linear.weight", "linear.weight_1")}
    assert {name: (dtype, integers.tolist()) for name, (dtype, integers) in stored.items()} == {
        "linear.weight": ("INT8", [[4, -8], [2, 2]]),
        "linear.weight_1": ("INT8", [[2, -4], [1, 1]]),
    }
    assert "linear.weight_2" not in {each.name for each in exported.model.graph.initializer}


def test_in_half_precision_no_step_is_lost(tmp_path: Path) -> None:
    # 32765 * 2**-15 is not a number of f16.
    weight = torch.tensor([[0.3, 0.99991]]).half()
    model = QuantizedLinear(weight, quantizer(2**-15, qint16)).half()
    exported = export(model.eval(), torch.ones(1, 2).half(), path=tmp_path / "m.onnx", verify=False)
    expected = torch.round(weight.float() * 2**15).clamp(max=32767)
    assert initializer(exported, "weight")[1].tolist() == expected.tolist()


class Shifted(nn.Module):
    """A zero point, which `nashquant.ops` takes though no FakeQuantize has one."""

    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(0.5)
        self.weight = nn.Parameter(torch.tensor([[0.5, -99.0, 99.0]]))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        weight = ops.fake_quantize_per_tensor(self.weight, 0.5, 3, -128, 127)
        return F.linear(ops.fake_quantize_per_tensor(self.quant(x), 0.5, -5, -128, 127), weight)


def test_a_zero_point_is_kept(tmp_path: Path) -> None:
    model, x = Shifted(), torch.tensor([[1.0, 0.5, -70.0]])
    exported = export(model, x, path=tmp_path / "m.onnx")
    assert initializer(exported, "weight")[1].tolist() == [[4, -128, 127]]
    assert [each.name for each in exported.model.graph.initializer if "zero_point" in each.name] != []
    # ONNX Runtime 1.32 optimizes a linear with zero points into another one.
    assert run(exported, x, optimized=False)[0].tolist() == model(x).tolist()


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant = quantizer(0.25)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.quant(torch.rand(2, 3))


def test_noise_is_not_a_weight(tmp_path: Path) -> None:
    exported = export(Noisy().eval(), torch.ones(2, 3), path=tmp_path / "m.onnx", verify=False)
    assert "QuantizeLinear" in operators(exported)


def test_large_weights_lie_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nashquant.quantization.hbdk4 import _write

    monkeypatch.setattr(_write, "LARGEST_IN_ONE_FILE", 10_000)
    weight = torch.randn(100, 200)
    model = nn.Sequential(OneQuantizer(quantizer(0.02)), QuantizedLinear(weight, quantizer(0.03)))
    x = torch.randn(2, 200)
    exported = export(model.eval(), x, path=tmp_path / "m.onnx")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    with torch.no_grad():
        torch.testing.assert_close(run(exported, x)[0], model(x), rtol=1e-4, atol=1e-4)

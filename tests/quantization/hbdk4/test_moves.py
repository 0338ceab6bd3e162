"""What only moves values keeps them on their grid, and the graph shows it."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.dtype import QuantDType, qint8, qint16
from nashquant.quantization.hbdk4 import export

from .small_models import OneQuantizer, nodes, operators, quantizer, run


class Moving(nn.Module):
    """Moves before the quantizer and behind it; then something that is no move."""

    def __init__(self, dtype: QuantDType) -> None:
        super().__init__()
        self.quant = quantizer(0.01, dtype)
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.quant(x.reshape(2, 4, 4, 4))
        x = F.max_pool2d(x, 2).permute(0, 2, 3, 1)
        x = x[:, :, 1:].flatten(1).unsqueeze(0)
        return x.mean(1), x.squeeze(0)


def test_a_pair_stands_behind_each_move(tmp_path: Path) -> None:
    model, x = Moving(qint8), torch.randn(2, 64)
    exported = export(model, x, path=tmp_path / "m.onnx")
    found = operators(exported)
    for i, operator in enumerate(found):
        if operator in ("MaxPool", "Transpose", "Slice", "Unsqueeze"):
            assert found[i + 1 : i + 3] == ["QuantizeLinear", "DequantizeLinear"], operator
    assert {tuple(node.input[1:]) for node in nodes(exported, "QuantizeLinear")} == {
        ("quant.scale", "quant.zero_point")
    }
    assert exported.quantizers == ("quant",)


def test_the_pairs_change_nothing_and_onnx_runtime_takes_them(tmp_path: Path) -> None:
    for dtype in (qint8, qint16):
        # On the grid already, halfway between no two steps: so every bit must agree.
        model, x = Moving(dtype), (torch.randint(-120, 120, (2, 64)) * 0.01).float()
        exported = export(model, x, path=tmp_path / "m.onnx")
        mean, moved = run(exported, x)
        assert torch.equal(moved, model(x)[1])
        torch.testing.assert_close(mean, model(x)[0])
        assert exported.agreement is not None
        assert exported.agreement.steps["output.1"] == 0.0


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.other = quantizer(0.5), quantizer(0.25)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.other(F.max_pool2d(self.quant(x), 2))


def test_no_pair_where_a_quantizer_follows(tmp_path: Path) -> None:
    exported = export(Pooled(), torch.randn(1, 1, 4, 4), path=tmp_path / "m.onnx")
    pair = ["QuantizeLinear", "DequantizeLinear"]
    assert operators(exported) == [*pair, "MaxPool", *pair]
    assert [node.input[1] for node in nodes(exported, "QuantizeLinear")] == ["quant.scale", "other.scale"]


class TransposedWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.weight_fake_quant = nn.Parameter(torch.ones(2, 3)), quantizer(0.25)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight_fake_quant(self.weight).T


def test_weights_are_moved_without(tmp_path: Path) -> None:
    model = nn.Sequential(OneQuantizer(quantizer(0.5)), TransposedWeight())
    exported = export(model.eval(), torch.randn(2, 3), path=tmp_path / "m.onnx")
    assert "Transpose" in operators(exported)
    assert len(nodes(exported, "QuantizeLinear")) == 1

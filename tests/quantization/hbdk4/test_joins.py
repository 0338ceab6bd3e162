"""hstack, vstack, dstack and column_stack: one Concat in the file, for every number of dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nashquant.nash import convert
from nashquant.quantization.hbdk4 import export

from .small_models import quantizer

SHAPES = ((), (3,), (2, 3), (2, 3, 4), (2, 3, 4, 5))


class Joined(nn.Module):
    """Pairs of tensors, one pair of each number of dimensions."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.join: Any = getattr(torch, name)
        self.quant, self.out = quantizer(0.5), quantizer(0.5)

    def forward(self, *x: Tensor) -> list[Tensor]:
        x = tuple(map(self.quant, x))
        return [self.out(self.join(pair)) for pair in zip(x[::2], x[1::2], strict=True)]


@pytest.mark.parametrize("name", ["hstack", "vstack", "dstack", "column_stack"])
def test_a_join_of_any_number_of_dimensions_is_one_concat_of_integers(name: str, tmp_path: Path) -> None:
    model, inputs = Joined(name).eval(), tuple(torch.randn(shape) * 9 for shape in SHAPES for _ in range(2))
    exported = export(model, inputs, path=tmp_path / "m.onnx")
    ops = [node.op_type for node in exported.model.graph.node]
    assert ops.count("Concat") == len(SHAPES)
    assert set(ops) <= {"Concat", "Unsqueeze", "QuantizeLinear", "DequantizeLinear"}
    integer = convert(exported)
    assert integer.report.floats == ()
    for ours, file, expected in zip(integer(*inputs), exported.run(*inputs), model(*inputs), strict=True):
        assert torch.equal(ours, expected)
        assert torch.equal(file, expected)

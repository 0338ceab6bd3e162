"""prepare's work grows as the model does, counted in calls of functions: no clock decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.calls import calls_in
from torch import Tensor, nn

from nashquant.quantization import prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter

from .conftest import Around


class Block(nn.Module):
    """Ten ops: a fused conv, a branch, moved values, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu, self.gate = (
            nn.Conv2d(4, 4, 1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.conv(x)))
        y = torch.sigmoid(self.gate(y)) * y
        return F.relu(torch.cat([y[:, :2], y[:, 2:]], 1) + x)


def blocks(ops: int) -> nn.Module:
    return Around(lambda s, x: s.blocks(x), blocks=nn.Sequential(*(Block() for _ in range(ops // 10))))


def one_long_forward(ops: int) -> nn.Module:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        for _ in range(ops // 2):
            x = F.relu(x + 1)
        return x

    return Around(body)


def one_op_of_many_operands(ops: int) -> nn.Module:
    return Around(lambda s, x: torch.cat([x * 0.5 for _ in range(ops - 1)]))


def one_module_called_often(ops: int) -> nn.Module:
    def body(self: Any, x: Tensor) -> Tensor:
        for _ in range(ops):
            x = self.conv(x)
        return x

    return Around(body, conv=nn.Conv2d(4, 4, 1))


def calls_of(model: nn.Module, folder: Path) -> int:
    """Those of one prepare, its files included."""
    return calls_in(lambda: prepare(model, torch.randn(1, 4, 4, 4), default_qat_qconfig_setter, save_dir=folder))


@pytest.mark.parametrize("shape", [blocks, one_long_forward, one_op_of_many_operands, one_module_called_often])
def test_twice_the_ops_take_twice_the_calls(shape: Callable[[int], nn.Module], tmp_path: Path) -> None:
    calls_of(shape(10), tmp_path)  # what is done once in a process
    base, once, twice = (calls_of(shape(ops).eval(), tmp_path) for ops in (40, 80, 160))
    # The same step again for twice the step: 80 more ops take twice what 40 more took, and 5 % of grace.
    assert twice - once < 2.1 * (once - base)


@pytest.mark.parametrize(("function", "most"), [(torch.sigmoid, 17), (F.relu, 39)])
def test_to_redirect_a_call_takes_few_calls_and_none_that_grows(function: Callable[..., Tensor], most: int) -> None:
    def calls(ops: int) -> int:
        def body(self: nn.Module, x: Tensor) -> Tensor:
            for _ in range(ops):
                x = function(x)
            return x

        x = torch.rand(4)
        model = prepare(Around(body), x, default_qat_qconfig_setter, save_dir=None)
        set_fake_quantize(model, "float")
        model(x)
        return calls_in(lambda: model(x))

    with torch.no_grad():
        ten, twenty, forty = (calls(ops) for ops in (10, 20, 40))
    assert forty - twenty == 2 * (twenty - ten)
    assert (twenty - ten) / 10 <= most

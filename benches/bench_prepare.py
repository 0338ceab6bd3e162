"""`prepare` itself, and what a redirected call adds to the same call and quantizer written out by hand."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from benches.harness import Rival, Row
from torch import Tensor, nn

from nashquant import set_march
from nashquant.quantization import DeQuantStub, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter

CALLS = 50  # in one forward


class Block(nn.Module):
    """Ten ops: a fused conv, a branch, moved values, a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.norm, self.relu = nn.BatchNorm2d(4), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.conv(x)))
        y = torch.sigmoid(self.gate(y)) * y
        return F.relu(torch.cat([y[:, :2], y[:, 2:]], 1) + x)


class Net(nn.Module):
    """`body` between the stubs."""

    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.quant, self.dequant, self.body = QuantStub(), DeQuantStub(), body

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.body(self.quant(x)))


@pytest.fixture(autouse=True)
def _quietly_for_a_march() -> Any:
    set_march("nash-m")
    logging.getLogger("nashquant").setLevel(logging.ERROR)
    yield
    logging.getLogger("nashquant").setLevel(logging.NOTSET)


@pytest.mark.parametrize("ops", [100, 300, 1000])
def test_prepare(race: Callable[[Row], None], ops: int) -> None:
    net, x = Net(nn.Sequential(*(Block() for _ in range(ops // 10)))).eval(), torch.randn(1, 4, 4, 4)

    @torch.no_grad()
    def ours() -> Tensor:
        model = prepare(net, x, default_qat_qconfig_setter, save_dir=None)
        set_fake_quantize(model, "float")
        return model(x)

    @torch.no_grad()
    def copied() -> Tensor:
        return copy.deepcopy(net)(x)

    race(
        Row(
            work="prepare",
            what="and one forward",
            size=f"{ops} ops",
            elements=ops,
            ours=ours,
            rivals=(Rival("deepcopy", copied, lambda y, z: torch.testing.assert_close(y, z)),),
            at_two_threads=False,
        )
    )


def _relu(x: Tensor) -> Tensor:
    for function in [F.relu] * CALLS:
        x = function(x)
    return x


def _sigmoid(x: Tensor) -> Tensor:
    for function in [torch.sigmoid] * CALLS:
        x = function(x)
    return x


def _add(x: Tensor) -> Tensor:
    for _ in range(CALLS):
        x = x + x
    return x


ONE = {"F.relu": F.relu, "torch.sigmoid": torch.sigmoid, "x + x": lambda x: x + x}


@pytest.mark.parametrize("state", ["float", "validation"])
@pytest.mark.parametrize(("name", "body"), [("F.relu", _relu), ("torch.sigmoid", _sigmoid), ("x + x", _add)])
def test_redirected_calls(race: Callable[[Row], None], name: str, body: Callable[..., Tensor], state: str) -> None:
    x = torch.rand(8) / 2**CALLS
    model = prepare(Net(body).eval(), x, default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(model, "calibration")
    model.train()(x)
    set_fake_quantize(model.eval(), state)
    op = name.partition(".")[2] or "add"
    quantizers = [getattr(model, f"_generated_{op}_{i}").activation_post_process for i in range(CALLS)]
    function = ONE[name]

    @torch.no_grad()
    def ours() -> Tensor:
        return model(x)

    @torch.no_grad()
    def by_hand() -> Tensor:
        y = model.quant(x)
        for quantizer in quantizers:
            y = quantizer(function(y))
        return model.dequant(y)

    race(
        Row(
            work="a redirected call",
            what=f"{name}, {state}",
            size=f"{CALLS} of 8",
            elements=8 * CALLS,
            ours=ours,
            rivals=(Rival("by hand", by_hand),),
            at_two_threads=False,
        )
    )

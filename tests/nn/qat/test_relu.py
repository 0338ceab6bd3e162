"""What a ReLU of the model computes, its quantizer does in its own pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant import March, ops, set_march
from nashquant.nn import FloatFunctional
from nashquant.quantization import (
    DeQuantStub,
    FakeQuantize,
    FakeQuantState,
    QuantStub,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter


class Net(nn.Module):
    def __init__(self, relu: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.skip, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), relu
        self.functional, self.last = FloatFunctional(), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        y = self.relu(self.conv(x))
        return self.dequant(self.last(self.functional.add_relu(y, self.skip(x))))  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _march() -> None:
    set_march(March.NASH_M)


@pytest.fixture
def clamps(monkeypatch: pytest.MonkeyPatch) -> list[ops.Clamp | None]:
    """The clamps that quantizers were given."""
    seen: list[ops.Clamp | None] = []
    forward = FakeQuantize.forward

    def spy(self: FakeQuantize, x: Tensor, clamp: ops.Clamp | None = None) -> Tensor:
        seen.append(clamp)
        return forward(self, x, clamp)

    monkeypatch.setattr(FakeQuantize, "forward", spy)
    return seen


@pytest.mark.parametrize(
    ("relu", "clamp"),
    [
        (nn.ReLU(), ops.RELU),
        (nn.ReLU(inplace=True), ops.RELU),
        (nn.ReLU6(), ops.RELU6),
        (F.relu, ops.RELU),
        (torch.relu, ops.RELU),
        (lambda x: x.relu(), ops.RELU),
        (F.relu6, ops.RELU6),
        (lambda x: F.relu(x, inplace=True), ops.RELU),
    ],
    ids=str,
)
def test_every_relu_runs_in_its_quantizer(
    relu: Callable[[Tensor], Tensor], clamp: ops.Clamp, clamps: list[ops.Clamp | None], tmp_path: Path
):
    x = torch.randn(2, 3, 8, 8) * 5
    model = prepare(Net(relu), x, qconfig_setter=(default_qat_qconfig_setter,), save_dir=tmp_path)
    set_fake_quantize(model.train(), FakeQuantState.QAT)
    clamps.clear()
    model(x).sum().backward()
    assert [seen for seen in clamps if seen is not None] == [clamp, ops.RELU]


def test_training_is_what_it_would_be_in_two_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    x = torch.randn(2, 3, 8, 8) * 5

    def trained() -> list[Tensor]:
        torch.manual_seed(0)
        model = prepare(Net(nn.ReLU()), x, qconfig_setter=(default_qat_qconfig_setter,), save_dir=tmp_path)
        set_fake_quantize(model.train(), FakeQuantState.QAT)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return [*model.parameters(), *model.buffers()]

    in_one = trained()
    forward = FakeQuantize.forward
    monkeypatch.setattr(
        FakeQuantize,
        "forward",
        lambda self, x, clamp=None: forward(self, x if clamp is None else clamp.function(x)),
    )
    assert all(torch.equal(*pair) for pair in zip(in_one, trained(), strict=True))


def test_a_subclass_that_knows_no_clamp_is_given_what_the_relu_gave(tmp_path: Path):
    class Own(FakeQuantize):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            assert (x >= 0).all()
            return super().forward(x)

    x = torch.randn(2, 3, 8, 8)
    model = prepare(Net(nn.ReLU()), x, qconfig_setter=(default_qat_qconfig_setter,), save_dir=tmp_path)
    model.relu.activation_post_process = Own()
    model.train()(x).sum().backward()

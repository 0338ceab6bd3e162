"""Several example inputs: each way through forward is recorded, and what lies on several of them is one op."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import (
    DeQuantStub,
    QuantStub,
    UnrecordedCallError,
    check_result_of,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter


class Branching(nn.Module):
    """A branch on the data behind a stem that fuses, and a loop whose length depends on the shape."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.stem = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.bright, self.dark = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(self.quant(x))
        y = self.bright(y) * 2 if x.mean() > 0 else torch.tanh(self.dark(y))
        while y.shape[-1] > 3:
            y = F.avg_pool2d(y, 2)
        return self.dequant(y + 1)  # type: ignore[no-any-return]


def ways() -> list[Tensor]:
    return [torch.rand(2, 4, 6, 6), -torch.rand(2, 4, 6, 6), torch.rand(1, 4, 24, 24)]


def branching(more: Any) -> tuple[nn.Module, Any]:
    model = Branching().eval()
    nn.init.normal_(model.stem[1].running_mean)
    first = ways()[0]
    prepared = prepare(model, first, default_calibration_qconfig_setter, save_dir=None, more_example_inputs=more)
    return model, prepared


def names(prepared: nn.Module) -> list[str]:
    return [row.name for row in check_result_of(prepared).layers]


def test_every_way_is_calibrated_and_quantized() -> None:
    model, prepared = branching(ways()[1:])
    set_fake_quantize(prepared.eval(), "calibration")
    for x in ways():
        prepared(x)
    set_fake_quantize(prepared.eval(), "validation")
    for x in ways():
        y = prepared(x)
        torch.testing.assert_close(y, model(x), atol=0.1, rtol=0)
        assert not torch.equal(y, model(x))
    set_fake_quantize(prepared, "float")
    for x in ways():
        torch.testing.assert_close(prepared(x), model(x))


def test_what_lies_on_every_way_is_one_op_and_still_fused() -> None:
    _, prepared = branching(ways()[1:])
    assert names(prepared) == [
        "quant",
        "stem.2",  # conv, batch norm and ReLU in one
        "bright",
        "_generated_mul_0",
        "_generated_avg_pool2d_0",
        "_generated_add_0",
        "dequant",
        "dark",
        "_generated_tanh_0",
        "_generated_avg_pool2d_0(1)",  # behind the other branch
        "_generated_add_0(1)",
        "dequant(1)",
        "_generated_avg_pool2d_1",
        "_generated_avg_pool2d_2",
        "_generated_add_0(2)",
        "dequant(2)",
    ]
    assert type(prepared.stem[1]) is nn.Identity
    assert check_result_of(prepared).called_times == ()


def test_more_inputs_of_the_same_way_change_nothing() -> None:
    _, once = branching([])
    _, often = branching([ways()[0] + 0.1, torch.rand(5, 4, 6, 6)])
    assert check_result_of(often).to_dict() == {**check_result_of(once).to_dict()}
    assert list(often.state_dict()) == list(once.state_dict())


def test_what_two_ways_read_otherwise_is_not_fused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(self.quant(x))
            return self.dequant(self.bn(y) if x.shape[0] > 1 else torch.tanh(y))  # type: ignore[no-any-return]

    x, model = torch.randn(2, 4, 6, 6), Net().eval()
    nn.init.normal_(model.bn.running_mean)
    prepared = prepare(model, x, default_calibration_qconfig_setter, save_dir=None, more_example_inputs=[x[:1]])
    assert type(prepared.bn) is not nn.Identity
    set_fake_quantize(prepared, "float")
    for each in (x, x[:1]):
        assert torch.equal(prepared(each), model(each))


def test_a_way_that_no_example_took_is_still_an_error() -> None:
    _, prepared = branching(ways()[2:])
    set_fake_quantize(prepared, "float")
    with pytest.raises(UnrecordedCallError, match=r"conv2d at .*more_example_inputs"):
        prepared(ways()[1])


def test_an_infinity_on_one_way_is_known_on_all() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.dequant(F.softmax(self.quant(x) + mask, -1))  # type: ignore[no-any-return]

    x, mask = torch.randn(2, 3, 3), torch.zeros(3, 3)
    hidden = torch.full((3, 3), -torch.inf).triu(1)
    for first, more in ((mask, hidden), (hidden, mask)):
        prepared: Any = prepare(
            Masked(), (x, first), default_calibration_qconfig_setter, save_dir=None, more_example_inputs=[(x, more)]
        )
        set_fake_quantize(prepared.eval(), "calibration")
        prepared(x, hidden)  # an observer would refuse an infinity
        assert names(prepared) == ["quant", "_generated_softmax_0", "dequant"]


def test_inputs_that_fail_are_named() -> None:
    with pytest.raises(ValueError, match=r"Branching fails on more_example_inputs\[1\] given to prepare: RuntimeError"):
        branching([ways()[1], torch.rand(2, 5, 6, 6)])
    with pytest.raises(TypeError, match="more_example_inputs takes a list of inputs, each as in example_inputs, not a"):
        branching(ways()[1])

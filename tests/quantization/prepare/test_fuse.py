"""What becomes one op: {conv, conv transpose, linear} + [batch norm] + [add] + [ReLU]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import check_result_of
from nashquant.quantization.qconfig_template import (
    calibration_8bit_weight_16bit_act_qconfig_setter,
    default_calibration_qconfig_setter,
)

Around = Callable[..., tuple[nn.Module, Any]]


def rows(prepared: nn.Module) -> list[tuple[str, str]]:
    return [(row.name, row.module_type) for row in check_result_of(prepared).layers][1:-1]


CASES = {
    "conv, relu": (lambda s, x: F.relu(s.a(x)), [("_generated_relu_0", "ConvReLU2d")]),
    "conv, relu6": (lambda s, x: F.relu6(s.a(x)), [("_generated_relu6_0", "ConvReLU62d")]),
    "conv, bn": (lambda s, x: s.bn(s.a(x)), [("a", "Conv2d")]),
    "conv, synchronized bn": (lambda s, x: s.sync(s.a(x)), [("a", "Conv2d")]),
    "conv, bn, relu": (lambda s, x: s.relu(s.bn(s.a(x))), [("relu", "ConvReLU2d")]),
    "conv, add": (lambda s, x: s.a(x) + x, [("_generated_add_0", "ConvAdd2d")]),
    "add, conv on the right": (lambda s, x: x + s.a(x), [("_generated_add_0", "ConvAdd2d")]),
    "conv, bn, add, relu": (lambda s, x: s.relu(s.bn(s.a(x)) + x), [("relu", "ConvAddReLU2d")]),
    "two convs into an add": (
        lambda s, x: s.relu(s.a(x) + s.b(x)),
        [("a", "Conv2d"), ("relu", "ConvAddReLU2d")],
    ),
    "conv, sigmoid": (lambda s, x: s.a(x).sigmoid(), [("a", "Conv2d"), ("_generated_sigmoid_0", "FloatFunctional")]),
    "conv used twice": (
        lambda s, x: F.relu(y := s.a(x)) * y,
        [("a", "Conv2d"), ("_generated_relu_0", "FloatFunctional"), ("_generated_mul_0", "FloatFunctional")],
    ),
    "conv plus itself": (lambda s, x: (y := s.a(x)) + y, [("a", "Conv2d"), ("_generated_add_0", "FloatFunctional")]),
    "conv plus twice x": (
        lambda s, x: torch.add(s.a(x), x, alpha=2),
        [("a", "Conv2d"), ("_generated_add_0", "FloatFunctional")],
    ),
    "conv plus once x": (lambda s, x: torch.add(s.a(x), x, alpha=1), [("_generated_add_0", "ConvAdd2d")]),
    "conv plus a number": (lambda s, x: s.a(x) + 1, [("a", "Conv2d"), ("_generated_add_0", "FloatFunctional")]),
    "broadcast addition": (
        lambda s, x: s.a(x) + x.mean((2, 3), keepdim=True),
        [("a", "Conv2d"), ("_generated_mean_0", "FloatFunctional"), ("_generated_add_0", "FloatFunctional")],
    ),
    "relu before add": (
        lambda s, x: F.relu(s.a(x)) + x,
        [("_generated_relu_0", "ConvReLU2d"), ("_generated_add_0", "FloatFunctional")],
    ),
    "identity between": (
        lambda s, x: s.identity(s.a(x)) + x,
        [("a", "Conv2d"), ("_generated_add_0", "FloatFunctional")],
    ),
    "linear, relu": (lambda s, x: s.linear(x).relu(), [("_generated_relu_0", "LinearReLU")]),
    "linear, add, relu": (lambda s, x: F.relu(x + s.linear(x)), [("_generated_relu_0", "LinearAddReLU")]),
    "functional conv, relu": (lambda s, x: F.relu(F.conv2d(x, s.a.weight)), [("_generated_relu_0", "ConvReLU2d")]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_fuses_is_one_row_and_keeps_the_numbers(case: str, around: Around, x: Tensor) -> None:
    body, expected = CASES[case]
    children = {
        "a": nn.Conv2d(4, 4, 1, bias=False),
        "b": nn.Conv2d(4, 4, 1),
        "bn": nn.BatchNorm2d(4),
        "sync": nn.SyncBatchNorm(4),
        "relu": nn.ReLU(),
        "identity": nn.Identity(),
        "linear": nn.Linear(6, 6),
    }
    model, prepared = around(body, x, default_calibration_qconfig_setter, **children)
    assert rows(prepared) == expected
    assert prepared(x).sub(model(x)).abs().max() < 0.1


def test_an_int16_input_keeps_conv_and_addition_apart_and_says_so(around: Around, x: Tensor) -> None:
    _, prepared = around(
        lambda s, x: F.relu(s.a(x) + x), x, calibration_8bit_weight_16bit_act_qconfig_setter, a=nn.Conv2d(4, 4, 1)
    )
    assert rows(prepared) == [
        ("a", "Conv2d"),
        ("_generated_add_0", "FloatFunctional"),
        ("_generated_relu_0", "FloatFunctional"),
    ]
    message = "not fused with its addition: nash-m takes no qint16 input there"
    assert ("a", "Conv2d", message) in check_result_of(prepared).messages

"""Every torch op that the vendor's public operator pages name is known: functions by their entry, modules by running.

The pages: the torch operator list of the J6E/M and S100 manuals, and the list of public ops in the RDK's QAT guide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import check_result_of
from nashquant.quantization.prepare.registry import function_entry

Around = Callable[..., tuple[nn.Module, Any]]
IMAGE, SEQUENCE = (2, 4, 6, 6), (2, 4, 8)

TORCH = (
    *("abs", "acos", "acosh", "add", "all", "any", "argmax", "argmin", "asin", "asinh", "atan", "atanh", "cat", "ceil"),
    *("clamp", "clip", "cos", "cosh", "div", "eq", "erf", "exp", "floor", "gather", "ge", "greater"),
    *(
        "gt",
        "le",
        "less",
        "less_equal",
        "log",
        "lt",
        "matmul",
        "max",
        "maximum",
        "mean",
        "min",
        "minimum",
        "mul",
        "pow",
    ),
    *("reciprocal", "selu", "sin", "sinh", "split", "sqrt", "sub", "sum", "tan", "topk", "softmax", "where"),
)
FUNCTIONAL = ("grid_sample", "interpolate", "pad", "relu", "relu6")
METHODS = (
    *(
        "__getitem__",
        "transpose",
        "argmax",
        "argmin",
        "clamp",
        "clip",
        "eq",
        "expand",
        "ge",
        "greater",
        "greater_equal",
    ),
    *(
        "greater_equal",
        "gt",
        "le",
        "less",
        "less_equal",
        "max",
        "min",
        "repeat",
        "reshape",
        "tile",
        "abs",
        "add",
        "all",
        "any",
    ),
)
MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(2), IMAGE),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), IMAGE),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(4), IMAGE),
    "BatchNorm3d": (lambda: nn.BatchNorm3d(4), (2, 4, 3, 3, 3)),
    "ChannelShuffle": (lambda: nn.ChannelShuffle(2), IMAGE),
    "ConstantPad2d": (lambda: nn.ConstantPad2d(1, 0.5), IMAGE),
    "Conv2d": (lambda: nn.Conv2d(4, 4, 3), IMAGE),
    "Conv3d": (lambda: nn.Conv3d(4, 4, 2), (2, 4, 3, 3, 3)),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(4, 4, 2, stride=2), IMAGE),
    "Dropout": (nn.Dropout, IMAGE),
    "Dropout2d": (nn.Dropout2d, IMAGE),
    "ELU": (nn.ELU, IMAGE),
    "GELU": (nn.GELU, IMAGE),
    "GLU": (nn.GLU, IMAGE),
    "Hardsigmoid": (nn.Hardsigmoid, IMAGE),
    "Identity": (nn.Identity, IMAGE),
    "LayerNorm": (lambda: nn.LayerNorm(6), IMAGE),
    "LeakyReLU": (nn.LeakyReLU, IMAGE),
    "Linear": (lambda: nn.Linear(6, 3), IMAGE),
    "MaxPool2d": (lambda: nn.MaxPool2d(2), IMAGE),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), IMAGE),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), IMAGE),
    "PReLU": (nn.PReLU, IMAGE),
    "ReLU": (nn.ReLU, IMAGE),
    "ReLU6": (nn.ReLU6, IMAGE),
    "ReplicationPad2d": (lambda: nn.ReplicationPad2d(1), IMAGE),
    "Sigmoid": (nn.Sigmoid, IMAGE),
    "SiLU": (nn.SiLU, IMAGE),
    "Softmax": (lambda: nn.Softmax(-1), IMAGE),
    "Softplus": (nn.Softplus, IMAGE),
    "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), IMAGE),
    "Tanh": (nn.Tanh, IMAGE),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), IMAGE),
    "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), IMAGE),
    "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(scale_factor=2), IMAGE),
    "ZeroPad2d": (lambda: nn.ZeroPad2d(1), IMAGE),
    "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), SEQUENCE),
}


@pytest.mark.parametrize(("home", "names"), [(torch, TORCH), (F, FUNCTIONAL), (Tensor, METHODS)])
def test_the_functions_have_entries(home: Any, names: tuple[str, ...]) -> None:
    assert [name for name in names if function_entry(getattr(home, name)) is None] == []


@pytest.mark.parametrize("name", MODULES)
def test_the_modules_leave_nothing_in_float(name: str, around: Around) -> None:
    make, shape = MODULES[name]
    x = torch.rand(shape)
    model, prepared = around(lambda s, x: s.m(x), x, m=make())
    assert check_result_of(prepared).float_ops == ()
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0.05)


def test_the_cells_and_attention_leave_nothing_in_float(around: Around) -> None:
    x = torch.rand(3, 4)
    _, prepared = around(lambda s, x: s.m(x, (x, x))[0], x, m=nn.LSTMCell(4, 4))
    assert check_result_of(prepared).float_ops == ()
    _, prepared = around(lambda s, x: s.m(x, x, x)[0], x, m=nn.MultiheadAttention(4, 2))
    assert check_result_of(prepared).float_ops == ()

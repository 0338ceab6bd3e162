"""The torch.library operators: the reference, in one node."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor, nn

from nashquant.ops import _library, _torch

PER_TENSOR = torch.ops.nashquant.fake_quantize_per_tensor
PER_CHANNEL = torch.ops.nashquant.fake_quantize_per_channel
SCALE, ZERO = torch.tensor([0.25, 0.5, 2.0]), torch.zeros(3, dtype=torch.int32)


def test_ties_go_to_even_and_ends_saturate() -> None:
    x = torch.tensor([0.5, 1.5, -2.5, 100.0, -torch.inf, torch.nan])
    expected = [0.0, 2.0, -2.0, 7.0, -8.0, -8.0]
    assert PER_TENSOR(x, 1.0, 0, -8, 7).tolist() == expected
    assert PER_TENSOR(x, torch.tensor([1.0]), 0, -8, 7).tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_they_are_the_reference(dtype: torch.dtype) -> None:
    x = torch.randn(4, 3, 5, dtype=torch.float64).to(dtype).transpose(0, 2)
    y = PER_CHANNEL(x, SCALE, ZERO, 1, -8, 7)
    assert (y.dtype, y.stride()) == (dtype, x.stride())
    assert torch.equal(y, _torch.fake_quantize_per_channel(x, SCALE, ZERO, 1, -8, 7)[0])
    expected = _torch.fake_quantize_per_tensor(x, torch.tensor(0.3), 0, -8, 7)[0]
    assert torch.equal(PER_TENSOR(x, 0.3, 0, -8, 7), expected)


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (PER_TENSOR.default, (0.5, 0, -8, 7)),
        (PER_TENSOR.tensor, (torch.tensor([0.5]), 0, -8, 7)),
        (PER_CHANNEL.default, (SCALE, ZERO, 1, -8, 7)),
    ],
)
def test_torch_finds_nothing_wrong_with_them(operator: torch._ops.OpOverload, arguments: tuple[object, ...]) -> None:
    results = torch.library.opcheck(operator, (torch.randn(2, 3), *arguments))
    assert set(results.values()) == {"SUCCESS"}


class Quantizing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([0.5]))

    def forward(self, x: Tensor) -> Tensor:
        x = PER_TENSOR(PER_TENSOR(x, self.scale, 0, -8, 7), 0.5, 0, -8, 7)
        return PER_CHANNEL(x, SCALE, ZERO, 1, -8, 7)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own
def test_each_call_is_one_node_even_decomposed() -> None:
    program = torch.export.export(Quantizing(), (torch.randn(2, 3),), strict=False).run_decompositions()
    targets = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert targets == [PER_TENSOR.tensor, PER_TENSOR.default, PER_CHANNEL.default]


def test_importing_them_again_changes_nothing() -> None:
    importlib.reload(_library)
    test_ties_go_to_even_and_ends_saturate()

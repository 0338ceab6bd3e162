"""The short way from Python to a kernel: what it takes, and that nobody notices which way a tensor went."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pytest
import torch
from tests.calls import calls_in

from nashquant import _core, ops

GRID = (0.1, 0, -128, 127)


def test_from_the_public_function_to_the_kernel_is_one_call():
    x = torch.randn(8)
    nothing = calls_in(lambda: None)
    assert calls_in(lambda: ops.fake_quantize_per_tensor(x, *GRID)) - nothing <= 3  # itself, is it compiled, the kernel


@pytest.mark.parametrize(
    "x",
    [
        torch.randn(2, 3, 4),
        torch.randn(4, 3, 2).permute(2, 0, 1),
        torch.randn(1, 3)[:, ::2],
        torch.randn(()),
        torch.ones(0),
    ],
    ids=["rows", "turned", "gaps", "0-d", "empty"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_what_comes_out_is_an_ordinary_tensor(x, dtype):
    x = x.to(dtype)
    y = ops.fake_quantize_per_tensor(x, *GRID)
    like = torch.empty_like(x)
    assert (y.dtype, y.shape, y.stride(), y.device) == (like.dtype, like.shape, like.stride(), like.device)
    assert (y._version, y.is_leaf, y.requires_grad, y._is_view()) == (0, True, False, False)
    assert y.untyped_storage().resizable()
    assert y.untyped_storage().nbytes() == like.untyped_storage().nbytes()
    for other in (copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        assert torch.equal(other, y)
    assert y.add_(1)._version == 1
    assert y.resize_(7).shape == (7,)
    with torch.inference_mode():
        assert ops.fake_quantize_per_tensor(x, *GRID).is_inference()


def test_a_torch_without_inductors_way_to_a_tensor_does_as_well():
    script = """
import torch
del torch._C._dynamo.guards._empty_strided_cpu
from nashquant import ops
x = torch.tensor([0.5, 1.5, -2.5, 100.0])
assert ops.fake_quantize_per_tensor(x, 1.0, 0, -8, 7).tolist() == [0, 2, -2, 7]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_what_is_no_plain_memory_on_the_cpu_is_left_to_the_reference():
    x = torch.ones(3)
    assert _core.takes(x)
    assert _core.takes(torch.nn.Parameter(x))
    for other in (x.to("meta"), x.as_subclass(type("Kind", (torch.Tensor,), {})), [1.0]):
        assert not _core.takes(other)
        assert _core.fake_quantize_per_tensor(other, *GRID) is None
    assert torch.vmap(lambda x: torch.tensor(_core.fake_quantize_per_tensor(x, *GRID) is None))(x).all()


def test_a_scale_is_a_number_or_a_tensor_of_one():
    x = torch.ones(2)
    for one in (1, torch.tensor(1), torch.ones(1, 1, dtype=torch.float64)):
        assert ops.fake_quantize_per_tensor(x, one, 0, -8, 7).tolist() == [1, 1]
    with pytest.raises(TypeError, match=r"^scale is a <class 'str'>, but must be a number or a torch\.Tensor$"):
        ops.fake_quantize_per_tensor(x, "1", 0, -8, 7)


def test_scales_of_the_negative_bit_are_read_as_what_they_say():
    x, negative = torch.ones(2), torch._neg_view(-torch.ones(2))
    zeros = torch.zeros(2, dtype=torch.int32)
    assert ops.fake_quantize_per_channel(x, negative, zeros, 0, -8, 7).tolist() == [1, 1]

"""What `_core` refuses, called past the functions that straighten its arguments."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from nashquant import _core, ops

GRID = {"scale": 1.0, "zero_point": 0, "qmin": -8, "qmax": 7}
X = torch.ones(2, 3)


def read(x):
    _core.min_max_per_tensor(x, torch.zeros(()), torch.zeros(()))


def mask():
    _, mask = _core.fake_quantize_per_tensor(X.clone().requires_grad_(), **GRID)
    return mask


@pytest.mark.parametrize("x", [[1.0], 3.0, None, memoryview(b"abcd")])
def test_only_tensors_cross(x):
    with pytest.raises(TypeError, match=rf"^x is a {type(x).__name__}, but must be a torch.Tensor$"):
        read(x)


def test_a_tensor_without_memory_is_refused():
    with FakeTensorMode():
        fake = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"^x has 6 elements but no memory \(a fake or meta tensor\?\)$"):
        read(fake)


def test_another_device_is_refused():
    with pytest.raises(ValueError, match=r"^x is on meta, but must be on the CPU$"):
        read(torch.empty(2, 3, device="meta"))


@pytest.mark.filterwarnings("ignore")  # nested tensors are a prototype, quantized ones deprecated
def test_tensors_that_are_no_strided_memory_are_refused():
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
    kinds = {
        "x has layout torch.sparse_coo, but must be torch.strided": torch.eye(3).to_sparse(),
        "x has layout torch.sparse_csr, but must be torch.strided": torch.eye(3).to_sparse_csr(),
        "x has layout torch._mkldnn, but must be torch.strided": torch.ones(3).to_mkldnn(),
        "x is nested, but must be one torch.Tensor": nested,
        "x has dtype torch.qint8, but must be that of numbers": torch.quantize_per_tensor(X, 0.1, 0, torch.qint8),
    }
    for message, x in kinds.items():
        with pytest.raises(ValueError, match=rf"^{message}$"):
            ops.fake_quantize_per_tensor(x, **GRID)


def test_partners_must_agree():
    with pytest.raises(ValueError, match=r"^grad_x has shape \[3, 2\], but grad_y has \[2, 3\]$"):
        _core.fake_quantize_backward(X, mask(), torch.zeros(3, 2))
    with pytest.raises(ValueError, match=r"^grad_x has dtype torch.float64, but grad_y has torch.float32$"):
        _core.fake_quantize_backward(X, mask(), torch.zeros(2, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"^grad_x has strides \[1, 2\], but grad_y has \[3, 1\]$"):
        _core.fake_quantize_backward(X, mask(), torch.zeros(3, 2).T)


def test_gaps_and_repeats_are_refused():
    with pytest.raises(ValueError, match=r"^x is not dense: its shape is \[2, 3\], its strides are \[6, 2\]$"):
        read(torch.ones(2, 6)[:, ::2])
    repeated = torch.ones(1, 3).expand(2, 3)
    assert not _core.is_dense(repeated)
    with pytest.raises(ValueError, match=r"^x is not dense: its shape is \[2, 3\], its strides are \[0, 1\]$"):
        read(repeated)


def test_memory_that_overlaps_is_refused_and_untouched():
    buffer = torch.full((8,), 0.3)
    _, mask = _core.fake_quantize_per_tensor(torch.full((4,), 9.0).requires_grad_(), **GRID)
    for grad_x in (buffer[:4], buffer[1:5], buffer[3:7]):
        with pytest.raises(ValueError, match=r"^grad_y and grad_x overlap in memory$"):
            _core.fake_quantize_backward(buffer[:4], mask, grad_x)
    assert torch.equal(buffer, torch.full((8,), 0.3))
    _core.fake_quantize_backward(buffer[:4], mask, buffer[4:])  # side by side is fine
    assert buffer.tolist() == pytest.approx([0.3] * 4 + [0] * 4)


def test_outputs_overlap_nothing_either():
    low = torch.zeros(3)
    with pytest.raises(ValueError, match=r"^low and high overlap in memory$"):
        _core.min_max_per_channel(X, low, low, axis=1)
    x = torch.ones(4)
    with pytest.raises(ValueError, match=r"^x and threshold overlap in memory$"):
        _core.mse_search_per_channel(x, x, axis=0, qmin=-8, qmax=7, stride=1)


def test_a_misaligned_address_is_refused():
    odd = torch.frombuffer(memoryview(bytearray(32))[1:25], dtype=torch.float32)
    if odd.data_ptr() % 4 == 0:
        pytest.skip("this allocator gave an address that is aligned after all")
    with pytest.raises(ValueError, match=r"^x starts at an address that is no multiple of 4$"):
        read(odd.view(2, 3))


def test_a_mask_belongs_to_one_shape_and_order():
    inside = mask()
    assert (inside.shape, inside.strides, inside.nbytes) == ([2, 3], [3, 1], 64)
    assert inside.fits(X)
    assert not inside.fits(torch.ones(3, 2).T)
    message = r"^grad_y has shape \[3, 2\] and strides \[2, 1\], but mask has \[2, 3\] and \[3, 1\]$"
    with pytest.raises(ValueError, match=message):
        _core.fake_quantize_backward(torch.ones(3, 2), inside, torch.ones(3, 2))
    with pytest.raises(TypeError, match=r"^y has dtype torch.float32, but must be torch.bool$"):
        inside.unpack(X)


def test_dense_means_any_order_of_axes():
    x = torch.ones(2, 3, 4, 5)
    assert _core.is_dense(x.permute(2, 0, 3, 1))
    assert _core.is_dense(x.contiguous(memory_format=torch.channels_last))
    assert _core.is_dense(torch.tensor(1.0))
    assert _core.is_dense(torch.empty(0, 3)[:, ::2])
    assert _core.is_dense(x[:1].expand(1, 3, 4, 5))
    assert not _core.is_dense(x[:, 1:])
    assert not _core.is_dense(torch.ones(3).as_strided((2, 2), (1, 1)))


def test_integers_must_fit():
    with pytest.raises(ValueError, match=rf"^qmin is -{2**40}, but must lie between -2\*\*31 and 2\*\*31 - 1"):
        _core.fake_quantize_per_tensor(X, scale=1.0, zero_point=0, qmin=-(2**40), qmax=7)


@pytest.mark.parametrize(("bad", "what"), [(1.5, "1.5 (float)"), ("8", "8 (str)"), (None, "None (NoneType)")])
@pytest.mark.parametrize("name", ["zero_point", "qmin", "qmax"])
def test_integers_must_be_integers(name, bad, what):
    grid = {"zero_point": 0, "qmin": -8, "qmax": 7} | {name: bad}
    with pytest.raises(TypeError, match=f"^{name} is {re.escape(what)}, but must be an int"):
        _core.fake_quantize_per_tensor(X, scale=1.0, **grid)


def test_it_runs_in_forked_workers_after_threads_were_used():
    script = """
import os, torch
from nashquant import ops
x = torch.randn(1 << 20)
expected = ops.fake_quantize_per_tensor(x, 0.01, 0, -128, 127)
pid = os.fork()
if pid == 0:
    torch.set_num_threads(1)
    os._exit(0 if torch.equal(ops.fake_quantize_per_tensor(x, 0.01, 0, -128, 127), expected) else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)

"""Convolutions of integers: the kernel against torch's convolution in f64, which is exact here."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from nashquant import ops
from nashquant.arithmetic import TFLITE

from .integers import integers, reference, same

DTYPES = [torch.int8, torch.int16]
PAIRS = [(x, w) for x in DTYPES for w in DTYPES]


# x, weight, stride, padding, dilation, groups
SHAPES = [
    ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0, 1, 1),
    ((2, 3, 9, 7), (5, 3, 3, 3), 1, 1, 1, 1),
    ((2, 16, 9, 7), (20, 16, 3, 3), 2, 1, 1, 1),
    ((1, 4, 11, 12), (6, 4, 5, 2), (3, 1), (2, 0), (1, 2), 1),
    ((2, 6, 8, 8), (9, 2, 3, 3), 1, 2, 2, 3),
    ((2, 6, 8, 8), (12, 3, 1, 1), 2, 0, 1, 2),
    ((2, 33, 8, 9), (33, 1, 3, 3), 1, 1, 1, 33),
    ((2, 16, 8, 9), (16, 1, 3, 5), (2, 1), (1, 4), (1, 2), 16),
    ((1, 4, 6, 6), (8, 1, 3, 3), 1, 1, 1, 4),
    ((1, 3, 3, 3), (2, 3, 7, 7), 1, 5, 1, 1),
    ((1, 3, 3, 2), (2, 3, 3, 2), 1, (2, 6), 3, 1),
    ((1, 3, 3, 4), (2, 3, 3, 3), 1, (1, 8), 1, 1),
    ((2, 5, 20), (7, 5, 4), 3, 2, 1, 1),
    ((2, 8, 20), (8, 1, 3), 1, 1, 2, 8),
    ((1, 3, 5, 6, 7), (4, 3, 2, 3, 3), (1, 2, 1), (1, 0, 1), 1, 1),
    ((0, 3, 5, 5), (4, 3, 3, 3), 1, 1, 1, 1),
    ((3, 64, 14, 14), (128, 64, 3, 3), 1, 1, 1, 1),
]


@pytest.mark.parametrize("case", SHAPES, ids=str)
@pytest.mark.parametrize(("of_x", "of_w"), PAIRS)
def test_every_shape_is_exact(path, of_x, of_w, case):
    x_shape, w_shape, *how = case
    x, weight = integers(of_x, *x_shape), integers(of_w, *w_shape)
    exact = (F.conv1d, F.conv2d, F.conv3d)[len(x_shape) - 3](x.double(), weight.double(), None, *how)
    found = ops.conv(x, weight, *how)
    assert found.shape == exact.shape
    assert torch.equal(found.double(), exact)
    packed = ops.PackedWeight(weight, of_x, groups=how[-1])
    assert same(ops.conv(x, packed, *how), found)
    assert same(found, reference(ops.conv, x, weight, *how))


@pytest.mark.parametrize("groups", [1, 4])
def test_at_the_ends_of_all_values_nothing_wraps(path, groups):
    for of_x, of_w in PAIRS:
        for end_x in (torch.iinfo(of_x).min, torch.iinfo(of_x).max):
            x = torch.full((1, 4, 5, 5), end_x, dtype=of_x)
            weight = torch.full((4, 4 // groups, 5, 5), torch.iinfo(of_w).min, dtype=of_w)
            found = ops.conv(x, weight, groups=groups)
            assert set(found.flatten().tolist()) == {end_x * torch.iinfo(of_w).min * 25 * 4 // groups}


def test_beyond_the_edges_there_is_the_zero_point(path):
    for groups, of_x, of_w in ((1, torch.int8, torch.int8), (6, torch.int8, torch.int8), (6, torch.int16, torch.int16)):
        x, weight = integers(of_x, 2, 6, 5, 5), integers(of_w, 6, 6 // groups, 3, 3)
        exact = F.conv2d(F.pad(x.double() - 7, (3, 0, 1, 2)), weight.double() + 9, None, 2, 0, 1, groups)
        found = ops.conv(x, weight, 2, ((1, 2), (3, 0)), 1, groups, zero_point_x=7, zero_point_weight=-9)
        assert torch.equal(found.double(), exact)
        packed = ops.PackedWeight(weight, of_x, groups=groups, zero_point=-9)
        assert same(ops.conv(x, packed, 2, ((1, 2), (3, 0)), zero_point_x=7), found)


@pytest.mark.parametrize(("of_x", "of_w"), PAIRS)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_one_pass_gives_the_bits_of_two(of_x, of_w, groups):
    x, weight = integers(of_x, 2, 6, 7, 8), integers(of_w, 6, 6 // groups, 3, 3)
    many = torch.rand(6, dtype=torch.float64) * 2.0 ** -(8 * (x.element_size() + weight.element_size()) - 8)
    for factor in (many, many[0].item()):
        for bias in (None, integers(torch.int32, 6)):
            acc = ops.conv(x, weight, 1, 1, 1, groups, zero_point_x=5).long()
            acc = acc if bias is None else acc + bias.reshape(-1, 1, 1)
            axis = 1 if isinstance(factor, torch.Tensor) else None
            for dtype in DTYPES:
                for where in ({}, {"zero_point": 11, "qmin": -90, "qmax": 100, "arithmetic": TFLITE}):
                    expected = reference(ops.requantize, acc, factor, dtype, axis=axis, **where)
                    given = (weight, bias, factor, dtype, 1, 1, 1, groups)
                    assert same(ops.conv_requantize(x, *given, zero_point_x=5, **where), expected)
                    assert same(reference(ops.conv_requantize, x, *given, zero_point_x=5, **where), expected)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("groups", [1, 32])
def test_any_number_of_threads_gives_the_references_bits(threads, groups):
    torch.set_num_threads(threads)
    x, weight = integers(torch.int8, 2, 32, 40, 41), integers(torch.int8, 32, 32 // groups, 3, 3)
    assert same(ops.conv(x, weight, 1, 1, 1, groups), reference(ops.conv, x, weight, 1, 1, 1, groups))


def test_channels_last_and_any_other_order_give_the_same():
    x, weight = integers(torch.int8, 2, 6, 5, 7), integers(torch.int8, 4, 6, 3, 3)
    expected = reference(ops.conv, x, weight)
    last = x.contiguous(memory_format=torch.channels_last)
    assert same(ops.conv(last, weight), expected)
    assert same(ops.conv(x.flip(0).flip(0)[:, :, :, :], weight.transpose(2, 3).contiguous().transpose(2, 3)), expected)
    assert ops.conv(last, weight).is_contiguous(memory_format=torch.channels_last)


@given(
    st.integers(1, 3),
    st.sampled_from([(1, 5, 3), (2, 2, 2), (3, 1, 1), (4, 1, 2)]),
    st.tuples(*[st.integers(3, 9)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
    st.tuples(*[st.integers(1, 2)] * 2),
    st.sampled_from(PAIRS),
)
def test_kernel_and_reference_agree_on_any_window(batch, parts, size, kernel, stride, padding, dilation, dtypes):
    groups, channels, outputs = parts
    x = integers(dtypes[0], batch, groups * channels, *size)
    weight = integers(dtypes[1], groups * outputs, channels, *kernel)
    if min(n + sum(ends) - d * (k - 1) for n, ends, d, k in zip(size, padding, dilation, kernel, strict=True)) < 1:
        with pytest.raises(ValueError, match="has no room for weight"):
            ops.conv(x, weight, stride, padding, dilation, groups)
        return
    how = (stride, padding, dilation, groups)
    assert same(ops.conv(x, weight, *how), reference(ops.conv, x, weight, *how))


TRANSPOSED = [(1, 1, 0, 0, 1), (2, 2, 1, 1, 1), (3, (2, 3), (1, 2), (1, 0), (2, 1)), (6, 2, 3, 1, 1), (1, 3, 4, 0, 1)]


@pytest.mark.parametrize(("groups", "stride", "padding", "more", "dilation"), TRANSPOSED)
def test_transposed_convolutions_are_exact(path, groups, stride, padding, more, dilation):
    for of_x, of_w in PAIRS:
        x, weight = integers(of_x, 2, 6, 5, 7), integers(of_w, 6, 4, 3, 3)
        exact = F.conv_transpose2d(x.double() - 3, weight.double(), None, stride, padding, more, groups, dilation)
        how = (stride, padding, more, groups, dilation)
        found = ops.conv_transpose(x, weight, *how, zero_point_x=3)
        assert found.shape == exact.shape
        assert torch.equal(found.double(), exact)
        packed = ops.PackedWeight.transposed(weight, of_x, groups=groups)
        bias = integers(torch.int32, weight.shape[1] * groups)
        expected = ops.requantize(found.long() + bias.reshape(-1, 1, 1), 1e-7, torch.int16)
        done = ops.conv_transpose_requantize(x, packed, bias, 1e-7, torch.int16, *how, zero_point_x=3)
        assert same(done, expected)


def test_what_is_wrong_is_said(path):
    x, weight = torch.zeros(1, 4, 5, 5, dtype=torch.int8), torch.zeros(6, 2, 3, 3, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"^x has shape \[1, 4, 5, 5\], but must have \[batch, 2, size, size\], as"):
        ops.conv(x, weight)
    for stride in (0, 1.5, (1, 1.5), (1, 0)):
        with pytest.raises(
            ValueError, match=rf"^stride is {re.escape(str(stride))}, but must be one whole number or 2, a"
        ):
            ops.conv(x, weight, stride, groups=2)
    for padding in (-1, 0.5, (1, 0.5), ((0, 1), (0, -1))):
        with pytest.raises(
            ValueError, match=rf"^padding is {re.escape(str(padding))}, but must be one whole number, or 2"
        ):
            ops.conv(x, weight, 1, padding, groups=2)
    with pytest.raises(
        ValueError, match=r"^dilation is \(1, 1, 1\), but must be one whole number or 2, and at least 1$"
    ):
        ops.conv(x, weight, 1, 0, (1, 1, 1), groups=2)
    with pytest.raises(ValueError, match=r"which with its padding has no room for weight \[6, 2, 3, 3\]$"):
        ops.conv(x, weight, 1, 0, 3, groups=2)
    with pytest.raises(ValueError, match=r"^weight has 6 outputs, but groups is 4$"):
        ops.conv(x, weight, groups=4)
    with pytest.raises(ValueError, match=r"^groups is 3, but weight was packed for 2$"):
        ops.conv(x, ops.PackedWeight(weight, groups=2), groups=3)
    with pytest.raises(TypeError, match=r"^x has dtype torch.float32, but must be torch.int8 or int16$"):
        ops.conv(x.float(), weight, groups=2)
    with pytest.raises(TypeError, match=r"^x has dtype torch.int16, but the weight was packed for torch.int8$"):
        ops.conv(x.short(), ops.PackedWeight(weight, groups=2))
    with pytest.raises(ValueError, match=r"^bias has shape \[5\], but must have \[6\]$"):
        ops.conv_requantize(x, weight, torch.zeros(5, dtype=torch.int32), 1.0, torch.int8, groups=2)
    bias = torch.full((6,), 2**63 - 1)
    with pytest.raises(ValueError, match=r"^a bias is 9223372036854775807, but must lie between -2\*\*62 and 2\*\*62$"):
        ops.conv_requantize(x, weight, bias, 1.0, torch.int8, groups=2)
    packed = ops.PackedWeight.transposed(torch.zeros(4, 3, 3, 3, dtype=torch.int8), groups=2)
    with pytest.raises(ValueError, match=r"^groups is 4, but weight was packed for 2$"):
        ops.conv_transpose(x, packed, groups=4)
    with pytest.raises(ValueError, match=r"^zero_point of the weight is 1, but a packed weight has its own: leave it"):
        ops.conv_transpose(x, packed, zero_point_weight=1)

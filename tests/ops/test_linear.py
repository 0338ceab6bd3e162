"""What is made ready once gives the bits of the same call made at once, and looks at nothing twice."""

from __future__ import annotations

import copy
import pickle
from unittest import mock

import pytest
import torch
from torch.nn import functional as F

from nashquant import ops
from nashquant.arithmetic import TFLITE

from .integers import integers, same

DTYPES = [torch.int8, torch.int16]
PAIRS = [(x, w) for x in DTYPES for w in DTYPES]


@pytest.mark.parametrize(("of_x", "of_w"), PAIRS)
def test_a_linear_takes_any_number_of_rows(path, of_x, of_w):
    # AMX multiplies up to four rows of int8 another way.
    weight, bias, x = ops.PackedWeight(integers(of_w, 33, 70), of_x), integers(torch.int32, 33), integers(of_x, 40, 70)
    sums = (x.long() - 3) @ weight.weight.long().T + bias
    factor = torch.rand(33, dtype=torch.float64) * 2.0 ** -(8 * (of_x.itemsize + of_w.itemsize) - 8)
    landing = {"zero_point": 11, "qmin": -90, "qmax": 100, "arithmetic": TFLITE}
    linear = ops.Linear(weight, bias, factor, torch.int8, zero_point_x=3, **landing)
    exact = ops.Linear(weight, bias, zero_point_x=3)
    expected = ops.requantize(sums, factor, torch.int8, axis=-1, **landing)
    for rows in (0, 1, 4, 5, 40):
        assert torch.equal(exact(x[:rows]).long(), sums[:rows])
        assert same(linear(x[:rows]), expected[:rows])
    assert same(linear(x[7]), expected[7])
    assert same(linear(x.reshape(2, 4, 5, 70)), expected.reshape(2, 4, 5, 33))


@pytest.mark.parametrize(("of_x", "of_w"), PAIRS)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_conv_takes_images_of_any_size(path, of_x, of_w, groups):
    weight = ops.PackedWeight(integers(of_w, 6, 6 // groups, 3, 2), of_x, groups=groups, zero_point=-1)
    bias, factor = integers(torch.int32, 6), 2.0 ** -(8 * (of_x.itemsize + of_w.itemsize) - 6)
    how = ((2, 1), ((1, 0), (2, 1)), (1, 2))
    conv = ops.Conv(weight, bias, factor, torch.int16, *how, zero_point_x=5, zero_point=-7)
    exact = ops.Conv(weight, bias, None, None, *how, zero_point_x=5)
    for batch, size in ((2, (7, 8)), (1, (2, 4)), (0, (3, 3))):
        x = integers(of_x, batch, 6, *size)
        padded = F.pad(x.double() - 5, (2, 1, 1, 0))
        sums = F.conv2d(padded, weight.weight.double() + 1, None, (2, 1), 0, (1, 2), groups).long()
        sums += bias.reshape(-1, 1, 1)
        assert torch.equal(exact(x).long(), sums)
        assert same(conv(x), ops.requantize(sums, factor, torch.int16, zero_point=-7))


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(2, 2, 1), (4, 2, 1), (3, 2, 2), (2, 3, 1), (5, 3, 2), (3, 1, 2)]
)
@pytest.mark.parametrize("groups", [1, 4])
def test_a_transposed_conv_is_exact_for_any_kernel_stride_and_padding(path, kernel, stride, dilation, groups):
    w = integers(torch.int8, 4, 8 // groups, kernel, 3)
    weight, bias = ops.PackedWeight.transposed(w, groups=groups, zero_point=2), integers(torch.int32, 8)
    for cut, more in (((0, 0), 0), ((1, 0), 1), ((0, 3), 2), ((2, 2), 4), ((0, 0), 9)):
        how = ((stride, 2), (cut, 1), (more, 0), (dilation, 1))
        exact = ops.ConvTranspose(weight, bias, None, None, *how, zero_point_x=-6)
        conv = ops.ConvTranspose(weight, bias, 0.01, torch.int8, *how, zero_point_x=-6, qmin=-100)
        for size in ((1, 1), (2, 3), (5, 4)):
            x = integers(torch.int8, 2, 4, *size)
            # All of it, with room behind; then what is cut off goes.
            whole = F.conv_transpose2d(
                x.double() + 6, w.double() - 2, None, (stride, 2), 0, 0, groups, (dilation, 1)
            ).long()
            sums = F.pad(whole, (0, 0, 0, more))[:, :, cut[0] : whole.shape[2] + more - cut[1], 1:-1]
            if sums.shape[2] <= 0:
                with pytest.raises(ValueError, match=r"of which nothing is left$"):
                    exact(x)
                continue
            sums = sums + bias.reshape(-1, 1, 1)
            assert torch.equal(exact(x).long(), sums)
            assert same(conv(x), ops.requantize(sums, 0.01, torch.int8, qmin=-100))


def test_accumulators_are_as_narrow_as_weight_and_bias_prove(path):
    weight = ops.PackedWeight(torch.full((1, 1), 127, dtype=torch.int8))
    x, most = torch.tensor([[-128]], dtype=torch.int8), 2**31 - 128 * 127
    for bias in (most - 1, -most + 1):
        assert same(ops.Linear(weight, torch.tensor([bias]))(x), torch.tensor([[bias - 128 * 127]], dtype=torch.int32))
    for bias in (most, -most):
        assert same(ops.Linear(weight, torch.tensor([bias]))(x), torch.tensor([[bias - 128 * 127]]))


def test_there_may_be_no_output(path):
    linear = ops.Linear(ops.PackedWeight(torch.zeros(0, 3, dtype=torch.int8)))
    assert linear(integers(torch.int8, 5, 3)).shape == (5, 0)


def test_what_is_given_may_change_afterwards(path):
    weight, bias, factor = integers(torch.int8, 3, 5), torch.tensor([1, 2, 3]), torch.full((3,), 0.01).double()
    linear = ops.Linear(ops.PackedWeight(weight), bias, factor, torch.int16)
    exact = ops.Linear(ops.PackedWeight(weight), bias)
    x = integers(torch.int8, 2, 5)
    expected, sums = linear(x), exact(x)
    for given in (weight, bias, factor):
        given.zero_()
    assert same(linear(x), expected)
    assert same(exact(x), sums)


def test_they_are_copied_pickled_and_shown(path):
    weight, x = ops.PackedWeight(integers(torch.int8, 3, 1, 2), torch.int16, groups=3), integers(torch.int16, 1, 3, 4)
    bias, factor = torch.tensor([1, 2, 3]), torch.full((3,), 0.01, dtype=torch.float64)
    conv = ops.Conv(weight, bias, factor, torch.int8, padding=1)
    transposed = ops.PackedWeight.transposed(integers(torch.int8, 3, 1, 2), torch.int16, groups=3)
    back = ops.ConvTranspose(transposed, bias, factor, torch.int8, stride=2)
    for each in (conv, back):
        for other in (copy.deepcopy(each), pickle.loads(pickle.dumps(each))):
            assert same(other(x), each(x))
    assert repr(conv) == "Conv([3, 1, 2], torch.int16 to torch.int8)"
    assert repr(back) == "ConvTranspose([3, 1, 2], torch.int16 to torch.int8)"


def test_a_call_makes_nothing_ready():
    weight = integers(torch.int8, 4, 4, 2)
    conv = ops.Conv(ops.PackedWeight(weight), None, 0.01, torch.int8)
    back = ops.ConvTranspose(ops.PackedWeight.transposed(weight), None, 0.01, torch.int8, stride=2)
    linear = ops.Linear(ops.PackedWeight(integers(torch.int8, 4, 4)), None, 0.01, torch.int8)
    with mock.patch.multiple(ops._rust_integer, linear=None, pack=None):
        for each in (conv, back, linear):
            each(integers(torch.int8, 4, 4, 4))


def test_what_is_wrong_is_said_when_it_is_made(path):
    weight = ops.PackedWeight(torch.zeros(4, 3, dtype=torch.int8))
    with pytest.raises(TypeError, match=r"^weight is a Tensor, but must be a PackedWeight$"):
        ops.Linear(weight.weight)
    with pytest.raises(ValueError, match=r"^weight has shape \[4, 3, 1\], but must be packed from \[N, K\]$"):
        ops.Linear(ops.PackedWeight(weight.weight[..., None]))
    with pytest.raises(ValueError, match=r"^weight has 2 groups, but of a matrix product must have one$"):
        ops.Linear(ops.PackedWeight(weight.weight, groups=2))
    for name, value in (("zero_point", 3), ("qmin", 0), ("qmax", 0)):
        with pytest.raises(ValueError, match=rf"^{name} is {value}, but accumulators have none: it needs a factor and"):
            ops.Linear(weight, **{name: value})
    with pytest.raises(ValueError, match=r"^weight has shape \[4, 3\], but of a convolution must have 3 to 5 dimen"):
        ops.Conv(weight)
    for given in ((0.5, None), (None, torch.int8)):
        with pytest.raises(ValueError, match=r"^factor is .* and dtype .*, but both must be given, or neither$"):
            ops.Linear(weight, None, *given)
    with pytest.raises(ValueError, match=r"^bias has shape \[3\], but must have \[4\]$"):
        ops.Linear(weight, torch.zeros(3, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"^a bias is 4611686018427387905, but must lie between -2\*\*62 and 2\*\*62$"):
        ops.Linear(weight, torch.tensor([0, 0, 0, 2**62 + 1]))
    with pytest.raises(ValueError, match=r"^factor has shape \[3\], but must have \[4\]$"):
        ops.Linear(weight, None, torch.ones(3, dtype=torch.float64), torch.int8)
    with pytest.raises(ValueError, match=r"^a factor is -1.0, but must be at least 0 and less than 2\*\*31$"):
        ops.Linear(weight, None, -1.0, torch.int8)
    with pytest.raises(ValueError, match=r"^zero_point_x is 128, but must lie between -128 and 127$"):
        ops.Linear(weight, zero_point_x=128)


def test_what_is_wrong_with_x_is_said(path):
    linear = ops.Linear(ops.PackedWeight(torch.zeros(4, 3, dtype=torch.int8)))
    with pytest.raises(ValueError, match=r"^x has shape \[2, 4\], but its last dimension must be 3, as weight has$"):
        linear(torch.zeros(2, 4, dtype=torch.int8))
    conv = ops.Conv(ops.PackedWeight(torch.zeros(4, 3, 2, dtype=torch.int8)))
    back = ops.ConvTranspose(ops.PackedWeight.transposed(torch.zeros(3, 4, 2, dtype=torch.int8)))
    for each in (linear, conv, back):
        with pytest.raises(TypeError, match=r"^x has dtype torch.int16, but the weight was packed for torch.int8$"):
            each(torch.zeros(2, 3, 3, dtype=torch.int16))
    for each in (conv, back):
        with pytest.raises(ValueError, match=r"^x has shape \[2, 4, 5\], but must have \[batch, 3, size\], as weight "):
            each(torch.zeros(2, 4, 5, dtype=torch.int8))


def test_a_weight_packed_for_another_product_is_refused():
    weight = torch.ones(2, 2, 3, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"packed for another product, but must be made by PackedWeight.transposed$"):
        ops.ConvTranspose(ops.PackedWeight(weight))
    transposed = pickle.loads(pickle.dumps(ops.PackedWeight.transposed(weight)))
    with pytest.raises(ValueError, match=r"packed for another product, but must be made by PackedWeight$"):
        ops.Conv(transposed)
    x = torch.ones(1, 2, 4, dtype=torch.int8)
    assert torch.equal(ops.ConvTranspose(transposed)(x), ops.conv_transpose(x, weight))

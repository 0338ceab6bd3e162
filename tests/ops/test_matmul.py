"""Products of integer matrices: kernel and reference against Python's integers, and each other."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nashquant import ops
from nashquant.arithmetic import TFLITE, TFLITE_INT16, Arithmetic, Rounding

from .integers import integers, reference, same

DTYPES = [torch.int8, torch.int16]
PAIRS = [(a, b) for a in DTYPES for b in DTYPES]


@pytest.mark.parametrize(("of_a", "of_b"), PAIRS)
def test_products_are_those_of_pythons_integers(path, of_a, of_b):
    a, b = integers(of_a, 3, 7), integers(of_b, 7, 5)
    exact = [[sum(x * w for x, w in zip(row, column, strict=True)) for column in b.T.tolist()] for row in a.tolist()]
    assert ops.matmul(a, b).tolist() == exact
    assert ops.matmul(a, ops.PackedWeight(b.T, of_a)).tolist() == exact


@pytest.mark.parametrize(("of_a", "of_b"), PAIRS)
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 5, 63, 64, 255, 509, 511, 512, 1021, 5000])
def test_every_depth_is_exact_also_at_the_ends_of_all_values(of_a, of_b, depth):
    for low_a, low_b in ((True, True), (True, False), (False, True)):
        ends_a, ends_b = torch.iinfo(of_a), torch.iinfo(of_b)
        a = torch.full((2, depth), ends_a.min if low_a else ends_a.max, dtype=of_a)
        b = torch.full((depth, 3), ends_b.min if low_b else ends_b.max, dtype=of_b)
        assert (
            ops.matmul(a, b)
            == depth
            * a.new_tensor(ends_a.min if low_a else ends_a.max).long()
            * b.new_tensor(ends_b.min if low_b else ends_b.max).long()
        ).all()
    a, b = integers(of_a, 5, depth), integers(of_b, depth, 19)
    assert same(ops.matmul(a, b), reference(ops.matmul, a, b))
    weight = ops.PackedWeight(b.T, of_a)
    assert same(ops.matmul(a, weight), reference(ops.matmul, a, weight))


@pytest.mark.parametrize(("of_a", "of_b"), PAIRS)
def test_a_depth_of_100_000_does_not_wrap(of_a, of_b):
    depth = 100_000
    a, b = torch.full((1, depth), torch.iinfo(of_a).min, dtype=of_a), integers(of_b, depth, 17)
    a[:, ::2], b[:, 0] = torch.iinfo(of_a).max, torch.iinfo(of_b).min
    assert same(ops.matmul(a, b), reference(ops.matmul, a, b))
    b[:] = torch.iinfo(of_b).min
    a[:] = torch.iinfo(of_a).min
    found = ops.matmul(a, b)
    assert set(found.flatten().tolist()) == {depth * torch.iinfo(of_a).min * torch.iinfo(of_b).min}


@pytest.mark.parametrize(("of_a", "of_b"), PAIRS)
def test_every_number_of_rows_and_columns_gives_the_references_bits(of_a, of_b):
    for m in [0, *range(1, 27), 95, 96, 97, 205]:
        a, b = integers(of_a, m, 37), integers(of_b, 37, 1 + m % 50)
        assert same(ops.matmul(a, b), reference(ops.matmul, a, b))
    for n in range(70):
        a, b = integers(of_a, 13, 6), integers(of_b, 6, n)
        assert same(ops.matmul(a, b), reference(ops.matmul, a, b))


def test_accumulators_are_as_narrow_as_can_be_proved(path):
    def dtype(of_a, of_b, depth, **zero_points):
        zeros = torch.zeros(1, depth, dtype=of_a), torch.zeros(depth, 1, dtype=of_b)
        return ops.matmul(*zeros, **zero_points).dtype

    for of_a, of_b, depth in ((torch.int8, torch.int8, 2**17), (torch.int16, torch.int8, 2**9)):
        assert dtype(of_a, of_b, depth - 1) == torch.int32
        assert dtype(of_a, of_b, depth) == torch.int64
        assert dtype(of_a, of_b, depth - 1, zero_point_a=100) == torch.int64
    assert dtype(torch.int16, torch.int16, 1) == torch.int32
    assert dtype(torch.int16, torch.int16, 2) == torch.int64
    small = ops.PackedWeight(torch.ones(1, 65_535, dtype=torch.int8), torch.int16)
    assert ops.matmul(torch.zeros(1, 65_535, dtype=torch.int16), small).dtype == torch.int32
    larger = ops.PackedWeight(torch.ones(1, 65_536, dtype=torch.int8), torch.int16)
    assert ops.matmul(torch.zeros(1, 65_536, dtype=torch.int16), larger).dtype == torch.int64


def test_zero_points_are_subtracted_first(path):
    for of_a, of_b in PAIRS:
        a, b = integers(of_a, 4, 9), integers(of_b, 9, 3)
        for zero_a, zero_b in ((3, 0), (0, -7), (-128, 127), (127, -128)):
            found = ops.matmul(a, b, zero_point_a=zero_a, zero_point_b=zero_b)
            assert torch.equal(found.long(), (a.long() - zero_a) @ (b.long() - zero_b))
            packed = ops.PackedWeight(b.T, of_a, zero_point=zero_b)
            assert torch.equal(ops.matmul(a, packed, zero_point_a=zero_a).long(), found.long())


@pytest.mark.parametrize(("of_a", "of_b"), PAIRS)
@pytest.mark.parametrize("arithmetic", [None, TFLITE, TFLITE_INT16, Arithmetic(Rounding.FLOOR)])
def test_one_pass_gives_the_bits_of_two(of_a, of_b, arithmetic):
    given = {} if arithmetic is None else {"arithmetic": arithmetic}
    for depth, n in ((1, 1), (33, 40), (600, 17)):
        a, b = integers(of_a, 13, depth), integers(of_b, depth, n)
        many = torch.rand(n, dtype=torch.float64) * 2.0 ** -(8 * (a.element_size() + b.element_size()) - 8)
        for factor in (many, many[0].item()):
            for bias in (None, integers(torch.int32, n), torch.full((n,), -(2**40))):
                acc = ops.matmul(a, b, zero_point_a=5).long() + (0 if bias is None else bias)
                axis = -1 if isinstance(factor, torch.Tensor) else None
                for dtype in DTYPES:
                    where = {"zero_point": 11, "qmin": -90, "qmax": 100, **given}
                    expected = reference(ops.requantize, acc, factor, dtype, axis=axis, **where)
                    for other in (b, ops.PackedWeight(b.T, of_a)):
                        found = ops.matmul_requantize(a, other, bias, factor, dtype, zero_point_a=5, **where)
                        assert same(found, expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_any_number_of_threads_gives_the_references_bits(threads):
    torch.set_num_threads(threads)
    for of_a, of_b in PAIRS:
        a, b = integers(of_a, 1000, 130), integers(of_b, 130, 33)
        assert same(ops.matmul(a, b), reference(ops.matmul, a, b))
        found = ops.matmul_requantize(a, b, None, 1e-5, torch.int16)
        assert same(found, reference(ops.matmul_requantize, a, b, None, 1e-5, torch.int16))


@given(st.integers(0, 40), st.integers(0, 70), st.integers(0, 40), st.sampled_from(PAIRS), st.integers(-128, 127))
def test_kernel_and_reference_agree_on_any_shape(m, k, n, dtypes, zero_point):
    a, b = integers(dtypes[0], m, k), integers(dtypes[1], k, n)
    found = ops.matmul(a, b, zero_point_a=zero_point)
    assert same(found, reference(ops.matmul, a, b, zero_point_a=zero_point))


def test_leading_dimensions_are_broadcast_as_by_torch(path):
    for left, right in (
        ((4,), (4, 3)),
        ((2, 4), (4, 3)),
        ((5, 2, 4), (4, 3)),
        ((5, 2, 4), (5, 4, 3)),
        ((6, 1, 2, 4), (5, 4, 3)),
        ((4,), (5, 4, 3)),
        ((0, 2, 4), (0, 4, 3)),
        ((2, 0, 4), (2, 4, 3)),
    ):
        a, b = integers(torch.int8, *left), integers(torch.int8, *right)
        expected = a.double() @ b.double()
        found = ops.matmul(a, b)
        assert found.shape == expected.shape
        assert torch.equal(found.double(), expected)
        assert ops.matmul_requantize(a, b, None, 0.1, torch.int8).shape == expected.shape


@pytest.mark.parametrize("small", [0, 1 << 40])
@pytest.mark.parametrize(("of_a", "of_b"), PAIRS)
def test_many_matrices_give_the_same_bits_one_by_one_and_at_once(of_a, of_b, small, monkeypatch):
    monkeypatch.setattr(ops._matmul, "_SMALL", small)
    a, b = integers(of_a, 3, 1, 5, 7), integers(of_b, 4, 7, 6)
    zeros = {"zero_point_a": -3, "zero_point_b": 5}
    assert same(ops.matmul(a, b, **zeros), reference(ops.matmul, a, b, **zeros))
    for factor in (0.002, torch.linspace(0.001, 0.01, 6, dtype=torch.float64)):
        given = (a, b, torch.arange(-3, 3) * 1000, factor, torch.int16)
        arguments = {**zeros, "zero_point": 2, "qmin": -2000, "arithmetic": Arithmetic(Rounding.FLOOR)}
        assert same(ops.matmul_requantize(*given, **arguments), reference(ops.matmul_requantize, *given, **arguments))


@pytest.mark.parametrize(("dtype", "depth"), [(torch.int8, 1023), (torch.int8, 1100), (torch.int16, 1100)])
def test_many_small_sums_are_exact_beyond_what_floats_hold(dtype, depth):
    largest = torch.iinfo(dtype).max
    a = torch.full((2, 1, depth), -largest, dtype=dtype)
    b = torch.full((2, depth, 1), largest, dtype=dtype)
    a[:, :, 0], b[:, 0] = 1, 1 + depth % 2  # the sum is odd: no f32 beyond 2**24 is
    expected = 1 + depth % 2 - (depth - 1) * largest * largest
    assert ops.matmul(a, b).flatten().tolist() == [expected, expected]


def test_operands_of_any_strides_are_read_and_not_changed(path):
    a, b = integers(torch.int8, 7, 5).T, integers(torch.int8, 9, 14)[:, ::2].T
    kept = a.clone(), b.clone()
    assert torch.equal(ops.matmul(a, b).double(), a.double() @ b.double())
    assert torch.equal(a, kept[0])
    assert torch.equal(b, kept[1])


def test_a_packed_weight_is_copied_and_pickled():
    weight = ops.PackedWeight(integers(torch.int8, 3, 5), torch.int16)
    a = integers(torch.int16, 2, 5)
    expected = ops.matmul(a, weight)
    for other in (copy.deepcopy(weight), pickle.loads(pickle.dumps(weight))):
        assert same(ops.matmul(a, other), expected)


def test_a_packed_weight_is_what_its_weight_was_when_it_was_packed(path):
    weight = torch.ones(1, 60_000, dtype=torch.int16)
    packed, a = ops.PackedWeight(weight, torch.int16), torch.full((1, 60_000), 32767, dtype=torch.int16)
    weight.fill_(32767)  # with these values, the 32 bits that ones were proved to need are too few
    assert ops.matmul(a, packed).tolist() == [[60_000 * 32767]]


def test_what_is_wrong_is_said(path):
    a, b = torch.zeros(2, 3, dtype=torch.int8), torch.zeros(3, 4, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"^a has shape \[2, 3\], but its last dimension must be 4, as b has$"):
        ops.matmul(a, b.T)
    with pytest.raises(TypeError, match=r"^b has dtype torch.int32, but must be torch.int8 or int16$"):
        ops.matmul(a, b.int())
    with pytest.raises(TypeError, match=r"^a has dtype torch.int8, but the weight was packed for torch.int16$"):
        ops.matmul(a, ops.PackedWeight(b.T, torch.int16))
    with pytest.raises(ValueError, match=r"^zero_point_a is 128, but must lie between -128 and 127$"):
        ops.matmul(a, b, zero_point_a=128)
    with pytest.raises(ValueError, match=r"^zero_point of the weight is 1, but a packed weight has its own: leave it"):
        ops.matmul(a, ops.PackedWeight(b.T), zero_point_b=1)
    with pytest.raises(ValueError, match=r"^bias has shape \[3\], but must have \[4\]$"):
        ops.matmul_requantize(a, b, torch.zeros(3, dtype=torch.int32), 1.0, torch.int8)
    with pytest.raises(TypeError, match=r"^bias has dtype torch.float32, but must be torch.int32 or int64$"):
        ops.matmul_requantize(a, b, torch.zeros(4), 1.0, torch.int8)
    for operands in ((a, b), (a, ops.PackedWeight(b.T)), (a[None], b.expand(5, 3, 4))):
        for bias in (2**63 - 1, 2**62 + 1, -(2**62) - 1, -(2**63)):
            with pytest.raises(ValueError, match=rf"^a bias is {bias}, but must lie between -2\*\*62 and 2\*\*62$"):
                ops.matmul_requantize(*operands, torch.tensor([0, 0, 0, bias]), 1.0, torch.int8)
        ends = torch.tensor([0, 0, -(2**62), 2**62])
        assert ops.matmul_requantize(*operands, ends, 1.0, torch.int8)[..., -2:].unique().tolist() == [-128, 127]
    with pytest.raises(
        ValueError, match=r"^a has leading dimensions \[2, 1\], which do not broadcast with \[7, 3, 1\] of b$"
    ):
        ops.matmul(a.expand(2, 1, 2, 3), b.expand(7, 3, 1, 3, 4))
    with pytest.raises(ValueError, match=r"^factor has shape \[3\], but must have \[4\]$"):
        ops.matmul_requantize(a, b, None, torch.ones(3, dtype=torch.float64), torch.int8)
    with pytest.raises(ValueError, match=r"^a factor is -1.0, but must be at least 0 and less than 2\*\*31$"):
        ops.matmul_requantize(a, b, None, -1.0, torch.int8)
    with pytest.raises(ValueError, match=r"but of a matrix product must be packed from \[N, K\]$"):
        ops.matmul(a, ops.PackedWeight(torch.zeros(2, 3, 1, dtype=torch.int8)))

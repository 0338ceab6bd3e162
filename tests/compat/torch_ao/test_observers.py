"""Observers: the values, buffers and complaints of torch.ao's."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import pytest
import torch

from nashquant.compat import torch_ao
from nashquant.compat.torch_ao import exact_parity

PER_TENSOR = ("MinMaxObserver", "MovingAverageMinMaxObserver", "HistogramObserver")
PER_CHANNEL = ("PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver")
TENSOR_SCHEMES = (torch.per_tensor_affine, torch.per_tensor_symmetric)
CHANNEL_SCHEMES = (torch.per_channel_affine, torch.per_channel_symmetric, torch.per_channel_affine_float_qparams)
DTYPES = (torch.qint8, torch.quint8, torch.qint32, torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32)

pytestmark = pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max", "ignore:must run observer")


def batches(*shape: int) -> list[torch.Tensor]:
    return [torch.randn(shape) * 3 + 1, torch.randn(shape) * 5 - 2, torch.rand(shape) + 4, -torch.rand(shape)]


def same_qparams(theirs: Any, mine: Any) -> None:
    for expected, got in zip(theirs.calculate_qparams(), mine.calculate_qparams(), strict=True):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        assert torch.equal(got, expected)


@pytest.mark.parametrize(
    ("name", "qscheme", "dtype"),
    [
        *itertools.product(PER_TENSOR[:2], TENSOR_SCHEMES, DTYPES),
        *itertools.product(PER_CHANNEL, CHANNEL_SCHEMES, DTYPES),
    ],
)
def test_range_scale_and_zero_point_are_torch_aos(name, qscheme, dtype, pair, assert_same_state) -> None:
    theirs, mine = pair(name, qscheme=qscheme, dtype=dtype)
    for x in batches(3, 4, 5):
        theirs(x)
        assert mine(x) is x
        assert_same_state(theirs, mine)
        same_qparams(theirs, mine)


@pytest.mark.parametrize("qscheme", TENSOR_SCHEMES)
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8])
@pytest.mark.parametrize("bins", [2048, 64])
def test_a_histogram_is_torch_aos(qscheme, dtype, bins, pair, assert_same_state) -> None:
    theirs, mine = pair("HistogramObserver", qscheme=qscheme, dtype=dtype, bins=bins)
    for x in (*batches(7, 300), torch.randn(2000).exp(), torch.zeros(5), torch.full((3,), 1e4)):
        theirs(x)
        mine(x)
        assert_same_state(theirs, mine)
        same_qparams(theirs, mine)


def test_outliers_are_cut_off_where_torch_ao_cuts_them_off(pair) -> None:
    theirs, mine = pair("HistogramObserver")
    # So many that one step of the search, 1e-5 of them, is several values; outliers on either side.
    for x in (torch.randn(300_000) * 2, torch.cat([torch.randn(300_000), torch.randn(3000) * 5 - 6])):
        theirs(x)
        mine(x)
        low, high = mine._non_linear_param_search()
        assert low > mine.min_val
        assert high < mine.max_val
        same_qparams(theirs, mine)


def test_the_error_of_a_part_is_torch_aos(pair) -> None:
    theirs, mine = pair("HistogramObserver", bins=64)
    for x in batches(40, 30):
        theirs(x)
        mine(x)
    for first, last in ((0, 63), (3, 40), (10, 10)):
        assert mine._compute_quantization_error(first, last) == theirs._compute_quantization_error(first, last)


@pytest.mark.parametrize("first", [torch.full((4,), 2.5), torch.zeros(4), torch.tensor([-1e30, 1e30])])
def test_a_histogram_of_one_value_grows_like_torch_aos(first, pair, assert_same_state) -> None:
    theirs, mine = pair("HistogramObserver")
    for x in (first, torch.tensor([-1.0, 3.0]), torch.randn(100)):
        theirs(x)
        mine(x)
        assert_same_state(theirs, mine)
        same_qparams(theirs, mine)


@pytest.mark.parametrize("name", PER_TENSOR)
@pytest.mark.parametrize("quant", [(-127, 127), (-8, 7), (-1, 0), (0, 127)])
@pytest.mark.parametrize("eps", [2**-12, 1.0])
def test_a_given_range_and_eps_are_kept_to(name, quant, eps, pair) -> None:
    theirs, mine = pair(
        name, quant_min=quant[0], quant_max=quant[1], eps=eps, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric
    )
    for x in (torch.zeros(3), torch.randn(9) * 1e-6, torch.randn(9)):
        theirs(x)
        mine(x)
        same_qparams(theirs, mine)


@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8, torch.uint16])
@pytest.mark.parametrize("quant", [(None, None), (0, 100), (0, 15)])
def test_the_middle_of_a_symmetric_unsigned_grid_is_torch_aos(dtype, quant, pair) -> None:
    theirs, mine = pair(
        "MinMaxObserver", dtype=dtype, quant_min=quant[0], quant_max=quant[1], qscheme=torch.per_tensor_symmetric
    )
    theirs(torch.ones(2))
    mine(torch.ones(2))
    same_qparams(theirs, mine)


@pytest.mark.parametrize("name", [*PER_TENSOR, *PER_CHANNEL])
@pytest.mark.parametrize("dtype", [torch.quint8, torch.qint8])
@pytest.mark.parametrize("quant", [(None, None), (-10, 20)])
def test_reduced_ranges_are_torch_aos(name, dtype, quant, pair) -> None:
    theirs, mine = pair(name, dtype=dtype, reduce_range=True, quant_min=quant[0], quant_max=quant[1])
    assert (mine.quant_min, mine.quant_max) == (theirs.quant_min, theirs.quant_max)


@pytest.mark.parametrize("name", PER_CHANNEL)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("qscheme", CHANNEL_SCHEMES)
def test_channels_may_be_on_any_axis(name, axis, qscheme, pair, assert_same_state) -> None:
    theirs, mine = pair(name, ch_axis=axis, qscheme=qscheme)
    for x in batches(3, 4, 5):
        theirs(x.transpose(0, 1))
        mine(x.transpose(0, 1))
        assert_same_state(theirs, mine)
        same_qparams(theirs, mine)


@pytest.mark.parametrize("name", [*PER_TENSOR, *PER_CHANNEL])
@pytest.mark.parametrize("to", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("module_too", [True, False])
def test_other_float_types_are_observed_as_torch_ao_does(name, to, module_too, pair, assert_same_state) -> None:
    theirs, mine = pair(name)
    # torch casts ranges too, and counts half precision in half precision: see test_differences.
    with exact_parity(module_too or (name == "HistogramObserver" and to != torch.float64)):
        if module_too:
            theirs, mine = theirs.to(to), mine.to(to)
        for x in batches(4, 6):
            theirs(x.to(to))
            mine(x.to(to))
            assert_same_state(theirs, mine)


@pytest.mark.parametrize("name", [*PER_TENSOR, *PER_CHANNEL])
def test_an_empty_tensor_shows_nothing(name, pair, assert_same_state) -> None:
    theirs, mine = pair(name)
    for x in (torch.empty(0, 3), torch.randn(4, 3), torch.empty(0, 3)):
        theirs(x)
        assert mine(x) is x
        assert_same_state(theirs, mine)


@pytest.mark.parametrize("name", PER_TENSOR)
def test_shapes_may_change(name, pair, assert_same_state) -> None:
    theirs, mine = pair(name)
    for shape in ((), (5,), (2, 3), (1, 2, 3, 4), (2, 3)):
        x = torch.randn(shape)
        theirs(x)
        mine(x)
        assert_same_state(theirs, mine)


@pytest.mark.parametrize("name", [*PER_TENSOR, *PER_CHANNEL])
def test_nothing_observed_means_scale_1_and_a_warning(name, pair) -> None:
    theirs, mine = pair(name)
    with pytest.warns(UserWarning, match="must run observer before calling calculate_qparams"):
        got = mine.calculate_qparams()
    expected = theirs.calculate_qparams()
    assert [(g.tolist(), g.dtype) for g in got] == [(e.tolist(), e.dtype) for e in expected]


@pytest.mark.parametrize("name", [*PER_TENSOR, *PER_CHANNEL])
def test_copies_and_pickles_hold_what_the_original_held(name, pair, assert_same_state) -> None:
    _, mine = pair(name)
    mine(torch.randn(4, 6))
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert_same_state(mine, other)
        other(torch.full((4, 6), 50.0))
        assert float(mine.max_val.max()) < 50
        same_qparams(mine, copy.deepcopy(mine))


@pytest.mark.parametrize("name", [*PER_TENSOR[:2], *PER_CHANNEL])
def test_reset_forgets(name, pair, assert_same_state) -> None:
    theirs, mine = pair(name)
    for observer in (theirs, mine):
        observer(torch.randn(4, 6))
        observer.reset_min_max_vals()
    assert_same_state(theirs, mine)


WRONG = [
    ("MinMaxObserver", {"qscheme": torch.per_channel_affine}),
    ("MovingAverageMinMaxObserver", {"qscheme": torch.per_channel_symmetric}),
    ("MovingAverageMinMaxObserver", {"is_dynamic": True}),
    ("HistogramObserver", {"qscheme": torch.per_channel_affine}),
    ("HistogramObserver", {"is_dynamic": True}),
    ("PerChannelMinMaxObserver", {"qscheme": torch.per_tensor_affine}),
    ("PerChannelMinMaxObserver", {"is_dynamic": True}),
    ("MovingAveragePerChannelMinMaxObserver", {"qscheme": torch.per_tensor_affine}),
    ("MinMaxObserver", {"dtype": torch.float32}),
    ("MinMaxObserver", {"quant_min": 1, "quant_max": 5}),
    ("MinMaxObserver", {"quant_min": 0, "quant_max": 0}),
    ("MinMaxObserver", {"quant_min": -200, "quant_max": 127, "dtype": torch.qint8}),
    ("MinMaxObserver", {"nonsense": 1}),
    ("MinMaxObserver", {"factory_kwargs": {"nonsense": 1}}),
    ("MinMaxObserver", {"dtype": torch.quint8, "reduce_range": True, "qscheme": torch.per_tensor_symmetric}),
    ("PerChannelMinMaxObserver", {"dtype": torch.quint8, "reduce_range": True, "qscheme": torch.per_channel_symmetric}),
    ("FixedQParamsObserver", {"scale": 1.0, "zero_point": 0, "is_dynamic": True}),
    ("FixedQParamsObserver", {}),
]


@pytest.mark.parametrize(("name", "arguments"), WRONG)
def test_what_torch_ao_refuses_is_refused_by_the_same_exception(name, arguments, pair) -> None:
    import torch.ao.quantization.observer as theirs

    with pytest.raises(Exception) as expected:  # noqa: PT011  (which one is what the test finds out)
        getattr(theirs, name)(**arguments)
    with pytest.raises(type(expected.value)) as got:
        getattr(torch_ao, name)(**arguments)
    assert got.type is expected.type


def test_a_range_upside_down_is_an_assertion_error(pair) -> None:
    for observer in pair("MinMaxObserver"):
        observer.min_val.fill_(2)
        observer.max_val.fill_(1)
        with pytest.raises(AssertionError, match=r"min 2\.0 should be less than max 1\.0"):
            observer.calculate_qparams()


@pytest.mark.parametrize("name", ["PlaceholderObserver", "NoopObserver", "ReuseInputObserver", "RecordingObserver"])
def test_passive_observers_have_no_qparams(name, pair) -> None:
    theirs, mine = pair(name)
    x = torch.randn(3)
    assert mine(x) is x
    assert mine.dtype == theirs.dtype
    for observer in (theirs, mine):
        with pytest.raises(Exception, match=f"calculate_qparams should not be called for {name}"):
            observer.calculate_qparams()


def test_a_recording_observer_keeps_copies() -> None:
    observer = torch_ao.RecordingObserver()
    x = torch.ones(2)
    observer(x)
    x.zero_()
    assert [kept.tolist() for kept in observer.get_tensor_value()] == [[1.0, 1.0]]


def test_a_fixed_observer_has_what_it_was_given(pair, assert_same_state) -> None:
    theirs, mine = pair("FixedQParamsObserver", scale=0.25, zero_point=3)
    assert_same_state(theirs, mine)
    same_qparams(theirs, mine)


def test_a_placeholder_says_which_quantization_is_meant(pair) -> None:
    theirs, mine = pair("PlaceholderObserver", dtype=torch.float16, quant_min=0, quant_max=3, is_dynamic=True)
    for name in ("dtype", "qscheme", "quant_min", "quant_max", "eps", "custom_op", "is_dynamic"):
        assert getattr(mine, name) == getattr(theirs, name), name
    with pytest.warns(UserWarning, match="Please use `is_dynamic`"):
        torch_ao.PlaceholderObserver(compute_dtype=torch.quint8)

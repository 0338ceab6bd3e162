"""Where torch.ao is known to be broken: what we do instead, and that `exact_parity` does what torch.ao does."""

from __future__ import annotations

import pytest
import torch

from nashquant.compat import torch_ao
from nashquant.compat.torch_ao import exact_parity, functional

NAN, INF = float("nan"), float("inf")
pytestmark = pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max")
MOVING = ("MovingAverageMinMaxObserver", "MinMaxObserver")
MOVING_CHANNELS = ("MovingAveragePerChannelMinMaxObserver", "PerChannelMinMaxObserver")


def test_the_switch_is_put_back() -> None:
    from nashquant.compat.torch_ao.parity import is_exact

    with pytest.raises(KeyError), exact_parity():
        {}["an error leaves it too"]
    assert not is_exact()
    exact_parity()
    assert is_exact()
    with exact_parity(False):
        assert not is_exact()
    assert is_exact()
    exact_parity(False)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", MOVING)
def test_a_batch_that_is_not_finite_moves_no_range(name, bad) -> None:
    observer = getattr(torch_ao, name)()
    for x in ([-1.0, 2.0], [bad, 5.0], [-1.0, 2.0]):
        if bad in x:
            with pytest.warns(UserWarning, match="NaN or infinity detected in input tensor, ignoring input"):
                observer(torch.tensor(x))
        else:
            observer(torch.tensor(x))
    assert (observer.min_val.item(), observer.max_val.item()) == (-1.0, 2.0)


@pytest.mark.filterwarnings("ignore:NaN or infinity detected")
@pytest.mark.parametrize("name", MOVING)
def test_a_first_batch_that_is_not_finite_starts_nothing(name) -> None:
    observer = getattr(torch_ao, name)()
    observer(torch.tensor([NAN]))
    observer(torch.tensor([-1.0, 2.0]))
    assert (observer.min_val.item(), observer.max_val.item()) == (-1.0, 2.0)


@pytest.mark.filterwarnings("ignore:NaN or infinity detected")
@pytest.mark.parametrize("name", MOVING_CHANNELS)
@pytest.mark.parametrize("first", [True, False])
def test_only_the_channel_that_is_not_finite_stays(name, first) -> None:
    observer = getattr(torch_ao, name)(qscheme=torch.per_channel_symmetric, dtype=torch.qint8)
    good, bad = torch.tensor([[-1.0, 2.0], [-3.0, 4.0]]), torch.tensor([[NAN, 2.0], [-3.0, 4.0]])
    for x in (bad, bad, good) if first else (good, bad, bad):
        observer(x)
        scale, point = observer.calculate_qparams()
        assert scale.isfinite().all()
        assert point.tolist() == [0, 0]
    assert observer.min_val.tolist() == [-1.0, -3.0]
    assert observer.max_val.tolist() == [2.0, 4.0]


@pytest.mark.filterwarnings("ignore:NaN or infinity detected")
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("first", [True, False])
def test_the_fused_module_is_not_poisoned_either(per_channel, first) -> None:
    make = torch_ao.default_fused_per_channel_wt_fake_quant if per_channel else torch_ao.default_fused_act_fake_quant
    quantizer, clean = make(), make()
    good = torch.tensor([[-1.0, 2.0], [-3.0, 4.0]])
    for x in (good * NAN, good) if first else (good, good * NAN):
        quantizer(x)
        assert quantizer.scale.isfinite().all()
    assert torch.equal(quantizer(good), clean(good))
    assert torch.equal(quantizer.activation_post_process.min_val, clean.activation_post_process.min_val)


@pytest.mark.parametrize("name", [*MOVING, *MOVING_CHANNELS])
def test_in_exact_parity_a_nan_stays_for_ever(name, pair, assert_same_state) -> None:
    theirs, mine = pair(name)
    with exact_parity():
        for x in ([[-1.0, 2.0]], [[NAN, 5.0]], [[-1.0, 2.0]], [[INF, 1.0]]):
            theirs(torch.tensor(x))
            mine(torch.tensor(x))
            assert_same_state(theirs, mine)
    assert mine.min_val.isnan().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["default_fused_act_fake_quant", "default_fused_per_channel_wt_fake_quant"])
def test_the_fused_module_takes_every_float_type(name, dtype) -> None:
    quantizer, in_single = getattr(torch_ao, name)(), getattr(torch_ao, name)()
    x = torch.randn(4, 5).to(dtype).requires_grad_()
    y = quantizer(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype
    torch.testing.assert_close(y.float(), in_single(x.float()), rtol=1e-2, atol=0)
    assert torch.equal(quantizer.scale, in_single.scale)
    with exact_parity(), pytest.raises(RuntimeError, match="expected scalar type Float but found"):
        quantizer(x)


EVERY_KIND = (
    "default_fake_quant",
    "default_per_channel_weight_fake_quant",
    "default_fused_act_fake_quant",
    "default_fused_per_channel_wt_fake_quant",
    "default_histogram_fake_quant",
)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", EVERY_KIND)
def test_scales_and_ranges_stay_f32_when_a_model_is_cast(name, dtype) -> None:
    cast, in_single = getattr(torch_ao, name)().to(dtype), getattr(torch_ao, name)()
    x = torch.randn(4, 5).to(dtype)
    assert cast(x).dtype == dtype
    in_single(x.float())
    for key, value in in_single.state_dict().items():
        assert torch.equal(cast.state_dict()[key], value), key
        assert cast.state_dict()[key].dtype == value.dtype, key


def test_in_exact_parity_a_cast_is_torch_aos(pair, assert_same_state) -> None:
    theirs, mine = pair("FakeQuantize")
    with exact_parity():
        for quantizer in (theirs, mine):
            quantizer.to(torch.bfloat16)(torch.tensor([0.1, 1.0]))
    assert_same_state(theirs, mine)
    assert mine.scale.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", EVERY_KIND)
def test_the_default_dtype_may_be_another(name, dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        quantizer = getattr(torch_ao, name)()
        assert quantizer(torch.rand(4, 5)).dtype == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert quantizer.scale.dtype == torch.float32


@pytest.mark.parametrize("qscheme", [torch.per_channel_symmetric, torch.per_channel_affine])
def test_a_channel_of_zeros_has_scale_1(qscheme, pair) -> None:
    theirs, mine = pair("PerChannelMinMaxObserver", dtype=torch.qint8, qscheme=qscheme)
    x = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
    theirs(x)
    mine(x)
    (scale, _), expected = mine.calculate_qparams(), theirs.calculate_qparams()
    assert scale[0] == 1
    assert scale[1] == expected[0][1]
    with exact_parity():
        for got, want in zip(mine.calculate_qparams(), expected, strict=True):
            assert torch.equal(got, want)
    assert expected[0][0] == torch.finfo(torch.float32).eps


@pytest.mark.parametrize("start", [0.0, -0.5, 1e-30])
def test_a_learned_scale_that_fell_too_low_counts_as_the_least_and_learns_on(start) -> None:
    scale = torch.tensor([start], requires_grad=True)
    y = functional._fake_quantize_learnable_per_tensor_affine(torch.tensor([9.0]), scale, torch.zeros(1), -8, 7)
    y.backward()
    assert y.item() == pytest.approx(7 * 2.0**-23)
    assert scale.grad.tolist() == [7.0]


def test_in_exact_parity_a_negative_scale_mirrors() -> None:
    arguments = (torch.randn(9), torch.tensor([-0.5]), torch.zeros(1), -8, 7)
    with exact_parity():
        got = functional._fake_quantize_learnable_per_tensor_affine(*arguments)
    assert torch.equal(got, torch._fake_quantize_learnable_per_tensor_affine(*arguments))


def test_a_negative_zero_point_is_the_same_on_the_way_back() -> None:
    def of_the_clamped(function) -> float:
        x, scale = torch.tensor([100.0]), torch.tensor([1.0], requires_grad=True)
        function(x, scale, torch.tensor([-3.0]), -8, 7).backward()
        return scale.grad.item()

    ours, theirs = (
        functional._fake_quantize_learnable_per_tensor_affine,
        torch._fake_quantize_learnable_per_tensor_affine,
    )
    assert of_the_clamped(ours) == 7 - -3
    assert of_the_clamped(theirs) == 7 - -2
    with exact_parity():
        assert of_the_clamped(ours) == 7 - -2


# Histograms


def test_a_histogram_loses_no_counts_above_2_to_the_24() -> None:
    many = torch.full((2**24,), 0.5)
    observer = torch_ao.HistogramObserver(bins=4)
    observer(torch.tensor([0.0, 1.0]))
    observer(many)
    for _ in range(3):
        observer(torch.full((1,), 0.5))
    assert observer.histogram.sum().item() == 2**24 + 5
    assert observer.histogram.dtype == torch.float64
    again = torch_ao.HistogramObserver(bins=4)
    again.load_state_dict(observer.state_dict())
    assert again.histogram.sum().item() == 2**24 + 5
    assert torch.equal(again.calculate_qparams()[0], observer.calculate_qparams()[0])


def test_more_than_2_to_the_24_at_once_are_counted() -> None:
    observer = torch_ao.HistogramObserver(bins=2)
    observer(torch.cat([torch.zeros(2**24 + 3), torch.ones(1)]))
    assert observer.histogram.tolist() == [2**24 + 3, 1]


def test_in_exact_parity_counts_are_lost_as_in_torch_ao(pair, assert_same_state) -> None:
    theirs, mine = pair("HistogramObserver", bins=4)
    with exact_parity():
        for x in (torch.tensor([0.0, 1.0]), torch.full((2**24,), 0.5), torch.full((1,), 0.5)):
            theirs(x)
            mine(x)
    assert_same_state(theirs, mine)
    assert mine.histogram.sum().item() < 2**24 + 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_exact_parity_a_histogram_counts_in_half_precision(dtype, pair, assert_same_state) -> None:
    theirs, mine = pair("HistogramObserver", bins=8)
    with exact_parity():
        for x in (torch.randn(100), torch.zeros(5000), torch.randn(50) * 4):
            theirs(x.to(dtype))
            mine(x.to(dtype))
            assert_same_state(theirs, mine)
    assert mine.histogram.sum() < 5150


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_histogram_loses_no_counts_in_half_precision(dtype) -> None:
    half, single = torch_ao.HistogramObserver(bins=8), torch_ao.HistogramObserver(bins=8)
    x = torch.cat([torch.randn(100), torch.zeros(5000)]).to(dtype)
    half(x)
    single(x.float())
    assert torch.equal(half.histogram, single.histogram)
    assert half.histogram.sum() == 5100


def test_a_histogram_counts_what_is_finite(pair, assert_same_state) -> None:
    theirs, mine = pair("HistogramObserver", bins=8)
    for x in ([INF, 1.0, 2.0], [-INF, -4.0], [INF]):
        for observer in (theirs, mine):
            with pytest.warns(UserWarning, match=r"torch\.inf detected in input tensor, ignoring input"):
                observer(torch.tensor(x))
        assert_same_state(theirs, mine)
    with pytest.warns(UserWarning, match="NaN detected in input tensor, ignoring it"):
        mine(torch.tensor([NAN, 0.5]))
    assert mine.histogram.sum().item() == 4

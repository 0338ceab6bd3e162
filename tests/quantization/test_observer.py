"""What all observers share, and the plainest of them."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from torch import Tensor

from nashquant.dtype import QuantDType, qint4, qint8, qint16
from nashquant.quantization import observer_v2
from nashquant.quantization.observer import (
    FixedScaleObserver,
    HistogramObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MSEObserver,
    ObserverBase,
    PercentileObserver,
    accepted_arguments,
    scale_from_range,
)

LEARNING = [MinMaxObserver, MSEObserver, HistogramObserver, PercentileObserver, KLObserver, MixObserver]
AVERAGING = [MinMaxObserver, MSEObserver, PercentileObserver, MixObserver]
PER_CHANNEL = {"qscheme": torch.per_channel_symmetric, "ch_axis": 1, "channel_len": 3}


def state_of(observer: ObserverBase) -> dict[str, Tensor]:
    """All buffers, the ones outside of the state_dict too."""
    return {name: buffer.clone() for name, buffer in observer.named_buffers()}


def assert_same_state(observer: ObserverBase, before: dict[str, Tensor]) -> None:
    after = state_of(observer)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


# Scale from range: literals of the vendor's printouts


@pytest.mark.parametrize(
    ("low", "high", "dtype", "printed"),
    [
        (-0.5, 0.9999191, qint8, "0.0078425"),
        (-0.9997096, 0.0, qint8, "0.0078409"),
        (-99.0, 1.0, qint8, "0.7764706"),
        (0.0, 8659.6435547, qint16, "0.2642754"),
    ],
)
def test_scales_are_those_the_vendor_prints(low: float, high: float, dtype: QuantDType, printed: str) -> None:
    observer = MinMaxObserver(dtype=dtype)
    observer(torch.tensor([low, high]))
    scale, zero_point = observer.calculate_qparams()
    assert f"{scale.item():.7f}" == printed
    assert (scale.shape, scale.dtype) == ((1,), torch.float32)
    assert zero_point.tolist() == [0]


def test_the_scale_is_never_below_f32_epsilon() -> None:
    zero = torch.tensor(0.0)
    assert scale_from_range(zero, zero, -128, 127).item() == 2.0**-23
    assert scale_from_range(zero, torch.tensor(1e-30), -32768, 32767).item() == 2.0**-23


def test_a_one_sided_range_reaches_zero() -> None:
    observer = MinMaxObserver()
    observer(torch.tensor([2.0, 5.1]))
    assert observer.calculate_qparams()[0].item() == torch.tensor(5.1).div(127.5).item()


# The moving average


def test_the_first_batch_starts_the_range_and_the_next_move_it() -> None:
    observer = MinMaxObserver(averaging_constant=0.25)
    observer(torch.tensor([-1.0, 2.0]))
    assert (observer.min_val.item(), observer.max_val.item()) == (-1.0, 2.0)
    observer(torch.tensor([-2.0, 6.0]))
    assert (observer.min_val.item(), observer.max_val.item()) == (-1.25, 3.0)


@pytest.mark.parametrize("kind", LEARNING)
def test_zero_freezes_after_the_first_batch(kind: type[ObserverBase]) -> None:
    observer = kind(averaging_constant=0.0)
    x = torch.randn(1000)
    assert observer.observe(x) is True
    before = state_of(observer)
    assert observer.observe(x * 10) is False
    assert_same_state(observer, before)


@pytest.mark.parametrize("kind", AVERAGING)
def test_one_follows_the_current_batch_exactly(kind: type[ObserverBase]) -> None:
    follower, fresh = kind(averaging_constant=1.0), kind()
    follower(torch.randn(1000) * 1e8)  # where m + 1 * (current - m) would lose all digits
    small = torch.randn(1000)
    follower(small)
    fresh(small)
    assert_same_state(follower, state_of(fresh))


@pytest.mark.parametrize("constant", [-0.1, 1.1, math.nan, True, "0.1"])
def test_an_averaging_constant_is_from_zero_to_one(constant: object) -> None:
    with pytest.raises(ValueError, match=r"averaging_constant is .*, expected a number from 0 to 1"):
        MinMaxObserver(averaging_constant=constant)


def test_torch_ao_observers_give_the_same_bits() -> None:
    observers = pytest.importorskip("torch.ao.quantization.observer")
    theirs = observers.MovingAverageMinMaxObserver(
        averaging_constant=0.01, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric
    )
    per_channel = observers.MovingAveragePerChannelMinMaxObserver(
        averaging_constant=0.01, ch_axis=1, dtype=torch.qint8, qscheme=torch.per_channel_symmetric
    )
    ours, ours_per_channel = MinMaxObserver(), MinMaxObserver(**PER_CHANNEL)
    for step in range(20):
        x = torch.randn(4, 3, 5) * (1 + step)
        for rival, mine in ((theirs, ours), (per_channel, ours_per_channel)):
            rival(x)
            mine(x)
            assert torch.equal(rival.min_val, mine.min_val)
            assert torch.equal(rival.max_val, mine.max_val)
            assert torch.equal(rival.calculate_qparams()[0].reshape(-1), mine.calculate_qparams()[0])


# What every observer keeps


@pytest.mark.parametrize("dtype", [qint4, qint8, qint16])
@pytest.mark.parametrize("common", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("kind", LEARNING)
def test_the_scale_is_that_of_the_range_kept(
    kind: type[ObserverBase], common: dict[str, object], dtype: QuantDType
) -> None:
    observer = kind(dtype=dtype, **common)
    for _ in range(3):
        x = torch.randn(4, 3, 50)
        assert observer(x) is x
    assert observer.min_val.shape == observer.max_val.shape == ((3,) if common else ())
    assert (observer.min_val < 0).all()
    assert (observer.max_val > 0).all()
    expected = torch.maximum(observer.min_val.abs(), observer.max_val) / ((dtype.qmax - dtype.qmin) / 2)
    assert torch.equal(observer.calculate_qparams()[0], expected.reshape(-1))
    assert set(observer.state_dict()) == {"min_val", "max_val"}


@pytest.mark.parametrize("kind", [*LEARNING, FixedScaleObserver])
def test_a_checkpoint_of_any_observer_continues_under_min_max(kind: type[ObserverBase]) -> None:
    calibrated = kind(scale=0.3) if kind is FixedScaleObserver else kind()
    for _ in range(3):
        calibrated(torch.randn(1000))
    training = MinMaxObserver()
    training.load_state_dict(calibrated.state_dict())
    assert training.has_range
    assert torch.allclose(training.calculate_qparams()[0], calibrated.calculate_qparams()[0], rtol=2e-7, atol=0)
    frozen = MinMaxObserver(averaging_constant=0)
    frozen.load_state_dict(calibrated.state_dict())
    assert frozen.observe(torch.randn(10) * 100) is False


@pytest.mark.parametrize("kind", [HistogramObserver, KLObserver])
def test_a_histogram_observer_moves_from_a_loaded_range_step_by_step(kind: type[ObserverBase]) -> None:
    loaded = kind(averaging_constant=0.5)
    loaded(torch.randn(1000))
    loaded.load_state_dict({"min_val": torch.tensor(-8.0), "max_val": torch.tensor(8.0)})
    assert loaded.batches_seen == 0
    loaded(torch.linspace(-1, 1, 1001))
    assert loaded.max_val.item() == pytest.approx(4.5, rel=0.02)


@pytest.mark.parametrize("kind", LEARNING)
def test_order_of_channels_does_not_matter(kind: type[ObserverBase]) -> None:
    x = torch.randn(4, 3, 50) * torch.tensor([0.1, 1.0, 10.0])[:, None]
    by_axis, rows = kind(**PER_CHANNEL), [kind() for _ in range(3)]
    for _ in range(2):
        by_axis(x)
        for channel, one in enumerate(rows):
            one(x[:, channel])
    assert torch.equal(by_axis.min_val, torch.stack([one.min_val for one in rows]))
    assert torch.equal(by_axis.max_val, torch.stack([one.max_val for one in rows]))


@pytest.mark.parametrize("kind", LEARNING)
@pytest.mark.parametrize("axis", [-1, 0])
def test_the_channel_axis_may_be_counted_from_the_end_or_be_the_only_one(kind: type[ObserverBase], axis: int) -> None:
    observer = kind(qscheme=torch.per_channel_symmetric, ch_axis=axis, channel_len=3)
    observer(torch.tensor([1.0, -2.0, 3.0]))
    assert torch.allclose(observer.calculate_qparams()[0] * 127.5, torch.tensor([1.0, 2.0, 3.0]), rtol=0.02)


@pytest.mark.parametrize("kind", LEARNING)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_are_observed_in_f32(kind: type[ObserverBase], dtype: torch.dtype) -> None:
    x = torch.randn(500).to(dtype)
    observer, reference = kind(), kind()
    observer(x)
    reference(x.float())
    assert observer.min_val.dtype == torch.float32
    assert torch.equal(observer.max_val, reference.max_val)


@pytest.mark.parametrize("kind", LEARNING)
def test_all_zeros_and_constants_are_observed(kind: type[ObserverBase]) -> None:
    observer = kind(averaging_constant=1.0)
    observer(torch.zeros(10))
    assert observer.calculate_qparams()[0].item() == 2.0**-23
    fresh = kind()
    fresh(torch.full((10,), -3.0))
    assert fresh.calculate_qparams()[0].item() == pytest.approx(3 / 127.5, rel=0.02)


# What is refused


@pytest.mark.parametrize("kind", LEARNING)
def test_nan_and_infinity_are_counted_and_change_nothing(kind: type[ObserverBase]) -> None:
    observer = kind()
    observer.name = "layer1.conv"
    observer(torch.randn(10))
    before = state_of(observer)
    bad = torch.tensor([1.0, math.nan, math.inf, -math.inf, 100.0])
    with pytest.raises(
        ValueError, match=r"x has 3 NaN or infinite values among 5, .* \(while observing 'layer1.conv'\)"
    ):
        observer(bad)
    assert_same_state(observer, before)


def test_a_range_wider_than_f32_is_no_infinity() -> None:
    observer = MinMaxObserver()
    observer(torch.tensor([-3e38, 3e38]))
    assert observer.max_val.item() == torch.tensor(3e38).item()


@pytest.mark.parametrize("kind", LEARNING)
def test_an_empty_tensor_shows_nothing(kind: type[ObserverBase]) -> None:
    observer = kind()
    assert observer.observe(torch.empty(0, 3)) is False
    assert not observer.has_range


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"x is torch.int64, expected floating point \(while observing"):
        MinMaxObserver()(torch.arange(3))


def test_a_wrong_number_of_channels_is_refused() -> None:
    observer = MinMaxObserver(**PER_CHANNEL)
    with pytest.raises(ValueError, match="x has 4 channels on axis 1 but channel_len is 3"):
        observer(torch.randn(2, 4))
    with pytest.raises(ValueError, match="x has 1 axes, so there is no axis 1"):
        observer(torch.randn(4))


@pytest.mark.parametrize("kind", [*LEARNING, FixedScaleObserver])
def test_an_unknown_argument_lists_the_known_ones(kind: type[ObserverBase]) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__} does not take 'bns'; it takes .*dtype, qscheme"):
        kind(bns=3)


def test_every_documented_argument_is_accepted() -> None:
    common = {
        "averaging_constant", "ch_axis", "dtype", "qscheme", "quant_min", "quant_max", "is_sync_quantize",
        "factory_kwargs",
    }  # fmt: skip
    for kind in LEARNING:
        assert common <= set(accepted_arguments(kind))
    assert {"stride", "memory_estimate_ratio", "pow_quantization"} <= set(accepted_arguments(MSEObserver))
    assert {"percentile", "bins"} <= set(accepted_arguments(PercentileObserver))
    assert {"bins", "update_interval"} <= set(accepted_arguments(KLObserver))
    assert {"scale", "zero_point", "dtype", "qscheme", "ch_axis"} <= set(accepted_arguments(FixedScaleObserver))
    assert "averaging_constant" not in accepted_arguments(FixedScaleObserver)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"dtype": torch.qint8}, TypeError, "dtype is torch.qint8, expected one of qint4, qint8, qint16"),
        ({"qscheme": torch.per_tensor_affine}, ValueError, "NASH quantization is symmetric"),
        ({"ch_axis": 0}, ValueError, "ch_axis=0 has no meaning per tensor"),
        ({"quant_min": -129}, ValueError, "quant_min is -129 and quant_max is 127, expected -128 <="),
        ({"quant_max": 0}, ValueError, "0 < quant_max <= 127"),
        ({"channel_len": 0}, ValueError, "channel_len is 0, expected at least 1"),
    ],
)
def test_wrong_arguments_are_named(wrong: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MinMaxObserver(**wrong)


def test_a_narrower_grid_has_a_wider_scale() -> None:
    observer = MinMaxObserver(quant_min=-127, quant_max=127)
    observer(torch.tensor([-1.27, 0.0]))
    assert observer.calculate_qparams()[0].item() == pytest.approx(0.01)


# How they live in a model


@pytest.mark.parametrize("kind", LEARNING)
def test_copies_and_pickles_go_on_alike(kind: type[ObserverBase]) -> None:
    observer = kind()
    observer(torch.randn(100))
    copies = [copy.deepcopy(observer), pickle.loads(pickle.dumps(observer))]
    more = torch.randn(100) * 2
    for one in [observer, *copies]:
        one(more)
    for one in copies:
        assert_same_state(one, state_of(observer))


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.double, torch.nn.Module.bfloat16])
def test_half_and_double_leave_the_range_as_it_is(convert: object) -> None:
    observer = HistogramObserver()
    observer(torch.randn(100))
    before = state_of(observer)
    convert(torch.nn.Sequential(observer))  # type: ignore[operator]
    assert_same_state(observer, before)
    assert observer.max_val.dtype == torch.float32
    assert observer.limit.dtype == torch.float64


def test_moving_to_a_device_moves_the_buffers() -> None:
    observer = MinMaxObserver().to("meta")
    assert observer.min_val.device.type == "meta"
    assert MinMaxObserver(factory_kwargs={"device": "meta"}).min_val.device.type == "meta"


@pytest.mark.parametrize("kind", LEARNING)
def test_inference_mode_observes(kind: type[ObserverBase]) -> None:
    inside, outside = kind(), kind()
    batches = [torch.randn(100), torch.randn(100)]
    for x in batches:
        outside(x)
    with torch.inference_mode():
        inside(batches[0])
    inside(batches[1])
    assert_same_state(inside, state_of(outside))


def test_observing_leaves_no_trace_in_autograd() -> None:
    x = torch.randn(10, requires_grad=True)
    observer = MinMaxObserver()
    (observer(x) * 2).sum().backward()
    assert torch.equal(x.grad, torch.full((10,), 2.0))
    assert not observer.min_val.requires_grad


def test_a_range_copied_in_place_is_seen() -> None:
    averaged, source = MinMaxObserver(), MinMaxObserver()
    source(torch.tensor([-1.0, 1.0]))
    for own, other in zip(averaged.buffers(), source.buffers(), strict=True):
        own.copy_(other)  # as torch.optim.swa_utils does
    assert averaged.has_range
    averaged(torch.tensor([-1.0, 2.0]))
    assert averaged.max_val.item() == pytest.approx(1.01)


def test_a_nan_in_a_checkpoint_is_no_range() -> None:
    observer = MinMaxObserver()
    observer.load_state_dict({"min_val": torch.tensor(torch.nan), "max_val": torch.tensor(1.0)})
    assert not observer.has_range


def test_repr_shows_the_range() -> None:
    observer = MinMaxObserver()
    assert repr(observer) == "MinMaxObserver(averaging_constant=0.01, nothing observed)"
    observer(torch.tensor([-0.5, 0.25]))
    assert repr(observer) == "MinMaxObserver(averaging_constant=0.01, min_val=-0.5, max_val=0.25)"
    assert repr(FixedScaleObserver(0.25)) == "FixedScaleObserver(scale=tensor([0.2500]), zero_point=tensor([0]))"


def test_the_vendors_path_has_all_observers() -> None:
    assert {getattr(observer_v2, name) for name in observer_v2.__all__} == {*LEARNING, FixedScaleObserver}

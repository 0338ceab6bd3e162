"""Which range each observer chooses, against the plain form of its algorithm."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nashquant.dtype import QuantDType, qint4, qint8, qint16
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.observer import (
    FixedScaleObserver,
    HistogramObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MSEObserver,
    ObserverBase,
    PercentileObserver,
)
from nashquant.quantization.observer.kl import kl_threshold
from nashquant.quantization.observer.magnitude_histogram import MagnitudeHistogram


def squared_error(x: Tensor, threshold: float, dtype: QuantDType) -> float:
    """Quantize, subtract, square, add."""
    scale = threshold / ((dtype.qmax - dtype.qmin) / 2)
    y = (x.double() / scale).round().clamp(dtype.qmin, dtype.qmax) * scale
    return float(((y - x) ** 2).sum())


def added(histogram: MagnitudeHistogram, rows: Tensor) -> MagnitudeHistogram:
    return histogram.added(rows, rows.abs().amax(1))


def chosen(observer: ObserverBase, x: Tensor) -> tuple[float, float]:
    observer(x)
    return observer.min_val.item(), observer.max_val.item()


def normal_with_outlier() -> Tensor:
    return torch.cat([torch.randn(20_000), torch.tensor([30.0])])


# MSE


@pytest.mark.parametrize("dtype", [qint4, qint8])
def test_mse_clips_where_the_error_is_least(dtype: QuantDType) -> None:
    x = normal_with_outlier()
    errors = {i: squared_error(x, 30 * i / 100, dtype) for i in range(1, 101)}
    best = min(errors, key=lambda i: errors[i])
    assert best < 100
    low, high = chosen(MSEObserver(dtype=dtype), x)
    assert high == pytest.approx(30 * best / 100, rel=1e-6)
    assert low == max(x.min().item(), -high)


def test_mse_looks_at_every_strideth_candidate_and_the_last() -> None:
    x = normal_with_outlier()
    errors = {i: squared_error(x, 30 * i / 100, qint8) for i in [*range(1, 101, 20), 100]}
    best = min(errors, key=lambda i: errors[i])
    assert chosen(MSEObserver(stride=20), x)[1] == pytest.approx(30 * best / 100, rel=1e-6)
    assert chosen(MSEObserver(stride=100, dtype=qint4), torch.tensor([-1.0, 1.0]))[1] == 1.0


def test_mse_keeps_a_range_that_does_not_reach_the_threshold() -> None:
    low, high = chosen(MSEObserver(), torch.cat([torch.rand(1000) + 1.0, torch.tensor([100.0])]))
    assert 0 < low < 1.01
    assert high < 101


def test_pow_quantization_rounds_the_scale_up_to_a_power_of_two() -> None:
    observer, plain = MSEObserver(pow_quantization=True), MSEObserver()
    for factor in (1.0, 0.5, 0.25, 4.0, 0.1):
        for _ in range(30):
            x = torch.randn(300) * factor
            observer(x)
            plain(x)
            scale, exact = observer.calculate_qparams()[0].item(), plain.calculate_qparams()[0].item()
            assert math.log2(scale) == int(math.log2(scale))
            assert exact <= scale < 2 * exact


def test_pow_quantization_keeps_a_power_of_two_and_starts_from_a_loaded_range() -> None:
    observer = MSEObserver(pow_quantization=True, averaging_constant=0.5)
    observer(torch.tensor([-127.5, 127.5]))
    assert observer.calculate_qparams()[0].item() == 1.0
    observer.load_state_dict({"min_val": torch.tensor(-510.0), "max_val": torch.tensor(510.0)})
    observer(torch.tensor([-255.0, 255.0]))  # half way to 255 is 382.5: scale 3
    assert observer.calculate_qparams()[0].item() == 4.0


@pytest.mark.parametrize("stride", [0, 101, 1.0, True])
def test_a_stride_is_from_1_to_100(stride: object) -> None:
    with pytest.raises(ValueError, match=r"stride is .*, expected an integer from 1 to 100"):
        MSEObserver(stride=stride)


# Percentile and mix


@pytest.mark.parametrize("percentile", [50.0, 90.0, 99.0, 99.9])
def test_percentile_is_the_next_bin_edge_above_that_share(percentile: float) -> None:
    x = torch.randn(10_000)
    high = chosen(PercentileObserver(percentile=percentile, bins=2048), x)[1]
    magnitudes = x.abs().sort().values
    exact = magnitudes[round(percentile * 100) - 1].item()
    assert exact <= high <= exact + x.abs().max().item() / 2048


def test_all_of_the_data_is_the_hundredth_percentile() -> None:
    x = torch.randn(999)
    assert chosen(PercentileObserver(percentile=100), x) == (x.min().item(), x.max().item())


def test_a_share_that_is_a_whole_number_of_values_is_not_one_more() -> None:
    x = torch.arange(1000) + 0.5
    assert chosen(PercentileObserver(percentile=99.9, bins=1000), x)[1] < 999


@pytest.mark.parametrize("percentile", [0.9999, 0, 100.1, "99"])
def test_a_percentile_is_in_percent(percentile: object) -> None:
    with pytest.raises(ValueError, match=r"percentile is .*, expected percent, as in 99.99"):
        PercentileObserver(percentile=percentile)


def test_mix_keeps_the_percentile_with_the_least_error() -> None:
    x = normal_with_outlier()
    tried = (90.0, 99.0, 99.9, 99.99, 100.0)
    thresholds = [chosen(PercentileObserver(percentile=p), x)[1] for p in tried]
    for dtype in (qint4, qint8):
        best = min(thresholds, key=lambda threshold: squared_error(x, threshold, dtype))
        assert chosen(MixObserver(tried, dtype=dtype), x)[1] == best
    with pytest.raises(ValueError, match="percentiles is empty"):
        MixObserver(())


# The histogram


@given(
    st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=30),
    st.integers(1, 5),
    st.sampled_from([2, 7, 64]),
)
def test_a_histogram_counts_everything_where_it_belongs(values: list[float], batches: int, bins: int) -> None:
    histogram = MagnitudeHistogram.empty(1, bins)
    rows = torch.tensor(values).repeat(batches)
    for part in rows.split(len(values)):
        for one in part:  # growing value by value
            histogram = added(histogram, one.reshape(1, 1))
    assert histogram.counts.sum() == len(rows)
    assert histogram.limit.item() >= max(values)
    edges = torch.arange(bins + 1) * histogram.width
    for index, count in enumerate(histogram.counts[0].tolist()):
        slack = 1e-9 * histogram.limit.item()
        inside = (rows >= edges[index] - slack) & (rows <= edges[index + 1] + slack)
        assert count <= int(inside.sum())


def test_zeros_before_the_first_value_are_counted_as_zeros() -> None:
    histogram = added(added(MagnitudeHistogram.empty(1, 4), torch.zeros(1, 5)), torch.tensor([[4.0, 1.5]]))
    assert histogram.counts.tolist() == [[5, 1, 0, 1]]


def test_growing_doubles_the_limit_and_merges_pairs() -> None:
    histogram = added(MagnitudeHistogram.empty(1, 4), torch.tensor([[0.5, 1.5, 2.5, 4.0]]))
    assert (histogram.counts.tolist(), histogram.limit.item()) == ([[1, 1, 1, 1]], 4.0)
    histogram = added(histogram, torch.tensor([[16.0]]))
    assert (histogram.counts.tolist(), histogram.limit.item()) == ([[4, 0, 0, 1]], 16.0)


@pytest.mark.parametrize("dtype", [qint4, qint8, qint16])
@pytest.mark.parametrize("share", [0.01, 0.37, 0.8, 1.0])
def test_the_squared_error_is_that_of_values_spread_over_their_bins(dtype: QuantDType, share: float) -> None:
    counts = torch.randint(0, 50, (1, 16))
    histogram = MagnitudeHistogram(counts, torch.tensor([3.0], dtype=torch.float64))
    fine = 40_000
    width = 3.0 / 16
    expected = 0.0
    for index, count in enumerate(counts[0].tolist()):
        points = (torch.arange(fine, dtype=torch.float64) + 0.5) / fine * width + index * width
        expected += squared_error(points, 3.0 * share, dtype) / fine * count
    error = histogram.squared_error(torch.tensor([[3.0 * share]]), dtype.qmin, dtype.qmax).item()
    assert error == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("dtype", [qint4, qint8])
def test_a_histogram_chooses_nearly_what_the_data_would(dtype: QuantDType) -> None:
    x = normal_with_outlier()
    best = min(squared_error(x, 30 * i / 100, dtype) for i in range(1, 101))
    high = chosen(HistogramObserver(dtype=dtype), x)[1]
    assert squared_error(x, high, dtype) <= best * 1.02


def test_a_histogram_sees_all_batches_alike() -> None:
    batches = [torch.randn(500) * (step + 1) for step in range(5)]
    forward, backward = HistogramObserver(method="percentile"), HistogramObserver(method="percentile")
    for x in batches:
        forward(x)
    for x in reversed(batches):
        backward(x)
    together = torch.cat(batches)
    assert forward.max_val.item() == pytest.approx(together.max().item(), rel=2e-3)
    assert backward.max_val.item() == pytest.approx(forward.max_val.item(), rel=2e-3)
    assert forward.counts.sum() == 2500


def calibrated_with_histograms() -> torch.nn.Module:
    model = torch.nn.ModuleDict(
        {
            "first": FakeQuantize(HistogramObserver, dtype=qint8),
            "second": FakeQuantize(HistogramObserver, dtype=qint16),
            "other": FakeQuantize(MinMaxObserver),
        }
    )
    for quantizer in model.values():
        quantizer(torch.linspace(-1, 1, 10_001) ** 3)
    return model


def test_reset_scale_chooses_anew_without_data() -> None:
    model = calibrated_with_histograms()
    other = model["other"].scale.item()
    assert HistogramObserver.reset_scale(model, "percentile", {"percentile": 0.5}) == ["first", "second"]
    assert model["first"].scale.item() == pytest.approx(0.125 / 127.5, rel=0.01)
    assert model["second"].scale.item() == pytest.approx(0.125 / 32767.5, rel=0.01)
    assert model["other"].scale.item() == other
    HistogramObserver.reset_scale(model, method="percentile", method_kwargs={"percentile": 1.0})
    assert model["first"].scale.item() == pytest.approx(1 / 127.5)
    HistogramObserver.reset_scale(model, method="mse")
    fresh = FakeQuantize(HistogramObserver)
    fresh(torch.linspace(-1, 1, 10_001) ** 3)
    assert model["first"].scale.item() == fresh.scale.item()


def test_reset_scale_keeps_its_method_for_later_batches() -> None:
    model = calibrated_with_histograms()
    HistogramObserver.reset_scale(model, "percentile", {"percentile": 0.5}, prefix="first")
    model["first"](torch.linspace(-1, 1, 10_001) ** 3)
    assert model["first"].scale.item() == pytest.approx(0.125 / 127.5, rel=0.01)


def test_reset_scale_takes_only_the_quantizers_asked_for() -> None:
    half = {"percentile": 0.5}
    assert HistogramObserver.reset_scale(calibrated_with_histograms(), method_kwargs=half, dtype=qint16) == ["second"]
    assert HistogramObserver.reset_scale(calibrated_with_histograms(), prefix="fi") == ["first"]
    assert HistogramObserver.reset_scale(calibrated_with_histograms()["first"], prefix="") == [""]


def test_reset_scale_needs_something_to_reset() -> None:
    model = calibrated_with_histograms()
    with pytest.raises(TypeError, match="dtype is 'qint8', expected qint8, qint16"):
        HistogramObserver.reset_scale(model, dtype="qint8")
    with pytest.raises(ValueError, match="no quantizer of qint4 under 'x' has a HistogramObserver that observed"):
        HistogramObserver.reset_scale(model, dtype=qint4, prefix="x")
    loaded = calibrated_with_histograms()
    loaded.load_state_dict(model.state_dict())
    with pytest.raises(ValueError, match="calibrate first"):
        HistogramObserver.reset_scale(loaded)


@pytest.mark.parametrize(
    ("method", "kwargs", "message"),
    [
        ("median", None, "method is 'median', expected one of 'percentile', 'mse'"),
        ("mse", {"percentile": 0.5}, "method 'mse' does not take 'percentile'; it takes stride"),
        ("percentile", {"percentile": 99.99}, "percentile is 99.99, expected a number from 0 to 1"),
        ("mse", {"stride": 0}, "stride is 0, expected"),
    ],
)
def test_a_method_and_its_parameters_are_checked(method: str, kwargs: dict[str, float], message: str) -> None:
    model = calibrated_with_histograms()
    before = model["first"].scale.item()
    with pytest.raises(ValueError, match=message):
        HistogramObserver.reset_scale(model, method, kwargs)
    with pytest.raises(ValueError, match=message):
        HistogramObserver(method=method, method_kwargs=kwargs)
    assert model["first"].scale.item() == before


@pytest.mark.parametrize("kind", [HistogramObserver, KLObserver, PercentileObserver, MixObserver])
def test_bins_are_at_least_two(kind: type[ObserverBase]) -> None:
    with pytest.raises(ValueError, match="bins is 1, expected an integer of at least 2"):
        kind(bins=1)


# KL


def naive_kl_threshold(counts: list[int], levels: int) -> float:
    """The slides' loop, the first bin counting as the second."""
    counts = [counts[1], *counts[1:]]
    best, winner = math.inf, float(len(counts))
    for i in range(levels, len(counts) + 1):
        p = [float(count) for count in counts[:i]]
        q = [0.0] * i
        for level in range(levels):
            members = [b for b in range(i) if b * levels // i == level]
            filled = [b for b in members if counts[b]]
            for b in filled:
                q[b] = sum(counts[m] for m in members) / len(filled)
        if sum(counts[i:]) > sum(counts) / 2:
            continue
        p[-1] += sum(counts[i:])
        q[-1] = q[-1] or (1e-4 if p[-1] else 0.0)
        pairs = [(pb / sum(p), qb / sum(q)) for pb, qb in zip(p, q, strict=True) if pb]
        divergence = sum(pb * math.log(pb / qb) for pb, qb in pairs)
        if divergence <= best:
            best, winner = divergence, min(i + 0.5, float(len(counts)))
    return winner


def test_kl_is_not_misled_by_the_zeros_of_a_relu() -> None:
    x = torch.relu(torch.randn(20_000) - 1.0)
    _low, high = chosen(KLObserver(), x)
    assert high > 0.75 * x.max()


def test_kl_is_the_loop_of_the_slides() -> None:
    winners = set()
    for trial in range(60):
        rate = torch.exp(-torch.arange(40) / (1 + trial % 15)) * 1000
        counts = torch.poisson(rate).long()
        counts[-1] += trial % 2  # an outlier
        threshold = kl_threshold(counts, 8).item()
        assert threshold == naive_kl_threshold(counts.tolist(), 8)
        winners.add(threshold)
    assert len(winners) > 5


def test_kl_clips_an_outlier() -> None:
    x = normal_with_outlier()
    low, high = chosen(KLObserver(), x)
    assert x.min().item() <= low < -2.5
    assert 3.0 < high < 20.0


def test_kl_does_not_clip_what_has_no_small_values() -> None:
    x = torch.cat([torch.rand(1000) + 9, torch.tensor([20.0])])
    assert chosen(KLObserver(), x)[1] > 9.9


def test_kl_with_as_many_levels_as_bins_takes_all() -> None:
    x = normal_with_outlier()
    assert chosen(KLObserver(dtype=qint16), x) == (x.min().item(), 30.0)
    assert chosen(KLObserver(bins=128), x) == (x.min().item(), 30.0)


def test_kl_updates_at_intervals_but_counts_every_batch() -> None:
    rare, often = KLObserver(update_interval=3), KLObserver()
    ranges = []
    for step in range(4):
        x = torch.randn(2000) * (step + 1)
        rare(x)
        often(x)
        ranges.append(rare.max_val.item())
    assert ranges[0] == ranges[1] == ranges[2] != ranges[3]
    assert ranges[3] == often.max_val.item()
    with pytest.raises(ValueError, match="update_interval is 0"):
        KLObserver(update_interval=0)


# Fixed scale


def test_a_fixed_scale_is_there_from_the_start_and_stays() -> None:
    observer = FixedScaleObserver(scale=1.1 / 32768, dtype=qint16)
    assert observer.has_range
    observer(torch.randn(10))
    assert observer.calculate_qparams()[0].item() == torch.tensor(1.1 / 32768).item()


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-45, [], [0.1, 0.0]])
def test_a_fixed_scale_is_positive_and_finite(scale: object) -> None:
    with pytest.raises(ValueError, match=r"scale is (empty|.*, expected a positive finite number)"):
        FixedScaleObserver(scale=scale)


@pytest.mark.parametrize("scale", ["a", None, {"scale": 1}, [0.1, "b"]])
def test_a_fixed_scale_is_a_number(scale: object) -> None:
    with pytest.raises(TypeError, match=r"scale is .*, expected a number, a list of numbers or a tensor"):
        FixedScaleObserver(scale=scale)


def test_a_fixed_scale_has_no_zero_point() -> None:
    with pytest.raises(ValueError, match="zero_point is 3, expected 0"):
        FixedScaleObserver(scale=1.0, zero_point=3)
    assert FixedScaleObserver(torch.tensor([1.0]), torch.tensor([0])).scale.tolist() == [1.0]


def test_fixed_scales_per_channel_are_one_for_each_or_one_for_all() -> None:
    per_channel = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0}
    assert FixedScaleObserver([0.1, 0.2], **per_channel).channel_len == 2
    assert FixedScaleObserver(0.5, **per_channel, channel_len=3).scale.tolist() == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="scale has 2 values, expected 3"):
        FixedScaleObserver([0.1, 0.2], **per_channel, channel_len=3)
    with pytest.raises(ValueError, match="scale has 2 values, expected 1"):
        FixedScaleObserver([0.1, 0.2])


def test_a_fixed_scale_needs_a_scale() -> None:
    with pytest.raises(TypeError, match="'scale'"):
        FixedScaleObserver(dtype=qint16)

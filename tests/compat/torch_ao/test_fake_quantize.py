"""Fake quantizers: the values, gradients, buffers and complaints of torch.ao's."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
import torch.ao.quantization.fake_quantize as ao_fake_quantize
import torch.ao.quantization.observer as ao_observer
from torch import nn

from nashquant.compat import torch_ao

pytestmark = pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max", "ignore:must run observer")

ACTIVATIONS = [
    ("FakeQuantize", {}),
    ("FakeQuantize", {"quant_min": 0, "quant_max": 255, "dtype": torch.quint8, "reduce_range": True}),
    ("FakeQuantize", {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8}),
    ("FakeQuantize", {"quant_min": -8, "quant_max": 7, "dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric}),
    ("FakeQuantize", {"quant_min": 0, "quant_max": 255, "qscheme": torch.per_tensor_symmetric}),
    ("FakeQuantize", {"dtype": torch.qint32, "qscheme": torch.per_tensor_symmetric}),
    ("FakeQuantize", {"dtype": torch.int16}),
    ("FakeQuantize", {"observer": "MinMaxObserver", "dtype": torch.qint8}),
    ("FakeQuantize", {"observer": "HistogramObserver", "bins": 64}),
    ("FakeQuantize", {"averaging_constant": 1, "is_dynamic": True}),
    ("FusedMovingAvgObsFakeQuantize", {}),
    ("FusedMovingAvgObsFakeQuantize", {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8}),
    (
        "FusedMovingAvgObsFakeQuantize",
        {"quant_min": -127, "quant_max": 127, "dtype": torch.qint8, "qscheme": torch.per_tensor_symmetric},
    ),
]
WEIGHTS = [
    (name, {"observer": observer, "qscheme": qscheme, "quant_min": low, "quant_max": high, "dtype": torch.qint8})
    for name, observer in (
        ("FakeQuantize", "PerChannelMinMaxObserver"),
        ("FakeQuantize", "MovingAveragePerChannelMinMaxObserver"),
        ("FusedMovingAvgObsFakeQuantize", "MovingAveragePerChannelMinMaxObserver"),
    )
    for qscheme in (torch.per_channel_symmetric, torch.per_channel_affine)
    for low, high in ((-128, 127), (-127, 127), (-8, 7))
] + [
    (
        "FakeQuantize",
        {"observer": "PerChannelMinMaxObserver", "qscheme": torch.per_channel_affine_float_qparams, "ch_axis": axis},
    )
    for axis in (0, 1)
]


def train(quantizer: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = quantizer(x)
    y.backward(torch.linspace(-1, 1, y.numel()).reshape(y.shape))
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.mark.parametrize(("name", "arguments"), [*ACTIVATIONS, *WEIGHTS])
def test_values_gradients_and_state_are_torch_aos(name, arguments, pair, assert_same_state) -> None:
    theirs, mine = pair(name, **arguments)
    for factor, shift in ((3, 1), (0.01, 0), (10, -4), (1, 20), (1, -20)):
        x = torch.randn(5, 4, 3) * factor + shift
        for expected, got in zip(train(theirs, x), train(mine, x), strict=True):
            assert torch.equal(got, expected)
        assert_same_state(theirs, mine)
    for module in (theirs, mine):
        module.disable_observer()
    x = torch.randn(5, 4, 3) * 100
    for expected, got in zip(train(theirs, x), train(mine, x), strict=True):
        assert torch.equal(got, expected)
    assert_same_state(theirs, mine)


@pytest.mark.parametrize(("name", "arguments"), [*ACTIVATIONS[:4], ACTIVATIONS[10], WEIGHTS[0], WEIGHTS[-1]])
def test_switches_do_what_torch_aos_do(name, arguments, pair, assert_same_state) -> None:
    theirs, mine = pair(name, **arguments)
    for observe, quantize in ((1, 0), (0, 1), (0, 0), (1, 1)):
        for module in (theirs, mine):
            module.enable_observer(bool(observe))
            module.enable_fake_quant(bool(quantize))
        x = torch.randn(5, 4) * 9
        assert torch.equal(mine(x), theirs(x))
        assert_same_state(theirs, mine)


def test_a_switch_that_somebody_writes_to_is_obeyed() -> None:
    quantizer = torch_ao.FakeQuantize()
    quantizer(torch.randn(5))
    quantizer.fake_quant_enabled[0] = 0
    quantizer.observer_enabled.zero_()
    x = torch.full((2,), 99.0)
    assert quantizer(x) is x
    assert float(quantizer.activation_post_process.max_val) < 99


@pytest.mark.parametrize("to", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "arguments"), [*ACTIVATIONS[:5], *WEIGHTS[:8]])
def test_other_float_types_get_torch_aos_values(name, arguments, to, pair, assert_same_state) -> None:
    theirs, mine = pair(name, **arguments)
    for _ in range(3):
        x = (torch.randn(5, 4) * 3).to(to)
        got, expected = mine(x), theirs(x)
        assert got.dtype == to
        assert torch.equal(got, expected)
        assert_same_state(theirs, mine)


@pytest.mark.parametrize(("name", "arguments"), [ACTIVATIONS[0], ACTIVATIONS[10], WEIGHTS[0]])
def test_an_empty_tensor_and_changing_shapes_pass(name, arguments, pair, assert_same_state) -> None:
    theirs, mine = pair(name, **arguments)
    for shape in ((2, 3), (2, 0), (2, 3, 4), (2, 1)):
        x = torch.randn(shape)
        assert torch.equal(mine(x), theirs(x))
        assert_same_state(theirs, mine)


@pytest.mark.parametrize("format", [torch.channels_last, torch.contiguous_format])
def test_memory_formats_are_kept(format) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=format)
    assert torch_ao.default_fake_quant()(x).stride() == x.stride()


def test_a_fixed_grid_is_torch_aos(pair, assert_same_state) -> None:
    for name in ("default_fixed_qparams_range_neg1to1_fake_quant", "default_fixed_qparams_range_0to1_fake_quant"):
        theirs, mine = getattr(ao_fake_quantize, name)(), getattr(torch_ao, name)()
        x = torch.randn(100)
        assert torch.equal(mine(x), theirs(x))
        assert_same_state(theirs, mine)
        assert mine.scale is mine.activation_post_process.scale


THEIR_NAMES = (*ao_observer.__all__, *ao_fake_quantize.__all__)
DEFAULTS = [name for name in THEIR_NAMES if "default" in name or "_neg_127" in name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_instances_are_torch_aos(name, assert_same_state) -> None:
    theirs = getattr(ao_fake_quantize, name, None) or getattr(ao_observer, name)
    theirs, mine = theirs(), getattr(torch_ao, name)()
    assert type(mine).__name__ == type(theirs).__name__
    assert_same_state(theirs, mine)
    expected = {key: value for key, value in vars(theirs).items() if isinstance(value, SETTINGS)}
    got = vars(mine)
    assert {key: got.get(key) for key in expected} == {**expected, **_without_counterpart(expected)}
    inner, own = getattr(theirs, "activation_post_process", None), getattr(mine, "activation_post_process", None)
    if inner is not None:
        assert type(own).__name__ == type(inner).__name__
        for key, value in vars(inner).items():
            if isinstance(value, SETTINGS) and key != "upsample_rate":
                assert getattr(own, key) == value, key


SETTINGS = (bool, int, float, str, torch.dtype, torch.qscheme)


def _without_counterpart(settings: dict[str, Any]) -> dict[str, Any]:
    return {key: None for key in ("upsample_rate",) if key in settings}


PUBLIC = [
    name
    for name in THEIR_NAMES
    if name.startswith(("enable", "disable")) or (name in torch_ao.__all__ and inspect.isclass(getattr(torch_ao, name)))
]


@pytest.mark.parametrize("name", PUBLIC)
def test_signatures_are_torch_aos(name) -> None:
    theirs = getattr(ao_fake_quantize, name, None) or getattr(ao_observer, name)
    mine = getattr(torch_ao, name)
    expected, got = inspect.signature(theirs).parameters, inspect.signature(mine).parameters
    assert list(got) == list(expected)
    for parameter in expected:
        if parameter != "observer":  # theirs and ours
            assert got[parameter].default == expected[parameter].default, parameter
            assert got[parameter].kind == expected[parameter].kind, parameter


def test_every_name_a_training_script_needs_is_there() -> None:
    only_there = {*THEIR_NAMES} - set(torch_ao.__all__)
    assert only_there == {
        # The affine observers that torch.ao copied from torchao, and describes as an experiment.
        *("AffineQuantizedObserverBase", "Granularity", "MappingType", "PerAxis", "PerBlock", "PerGroup", "PerRow"),
        *("PerTensor", "PerToken", "TorchAODType", "ZeroPointDomain", "get_block_size"),
    }


WRONG = [
    {"quant_min": 5, "quant_max": 1},
    {"quant_min": -1, "quant_max": 255},
    {"quant_min": 0, "quant_max": 256},
    {"quant_min": 1, "quant_max": 255},
    {"quant_min": -128, "quant_max": 128, "dtype": torch.qint8},
    {"qscheme": torch.per_channel_affine},
    {"nonsense": 3},
    {"dtype": torch.float32},
]


@pytest.mark.parametrize("arguments", WRONG)
@pytest.mark.parametrize("name", ["FakeQuantize", "FusedMovingAvgObsFakeQuantize"])
def test_what_torch_ao_refuses_is_refused_by_the_same_exception(name, arguments) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011  (which one is what the test finds out)
        getattr(ao_fake_quantize, name)(**arguments)
    with pytest.raises(type(expected.value)) as got:
        getattr(torch_ao, name)(**arguments)
    assert got.type is expected.type


NO_FLOATS = [torch.int64, torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn]


@pytest.mark.parametrize("dtype", NO_FLOATS)
@pytest.mark.parametrize("name", ["default_fused_act_fake_quant", "default_fused_per_channel_wt_fake_quant"])
def test_the_fused_module_refuses_what_is_no_float_before_it_changes(name, dtype, assert_same_state) -> None:
    for seen in (False, True):
        quantizer = getattr(torch_ao, name)()
        if seen:
            quantizer(torch.randn(2, 3))
        before = copy.deepcopy(quantizer)
        with pytest.raises(RuntimeError, match=f"input is {dtype}, expected one of torch.float32"):
            quantizer(torch.tensor([[0, 1, 5], [2, 3, 4]]).to(dtype))
        assert_same_state(quantizer, before)


def test_the_fused_module_wants_a_moving_average() -> None:
    for home in (ao_fake_quantize, torch_ao):
        with pytest.raises(AssertionError, match="only works with MovingAverageMinMaxObserver"):
            home.FusedMovingAvgObsFakeQuantize(observer=ao_observer.MinMaxObserver)


def test_a_fixed_quantizer_wants_a_fixed_observer() -> None:
    for home in (ao_fake_quantize, torch_ao):
        with pytest.raises(AssertionError, match="observer must be a FixedQParamsObserver"):
            home.FixedQParamsFakeQuantize(observer=torch_ao.MinMaxObserver)


def test_observers_of_torch_ao_fit_in_ours() -> None:
    x = torch.randn(50)
    mixed = torch_ao.FakeQuantize(observer=ao_observer.MovingAverageMinMaxObserver)
    assert torch.equal(mixed(x), ao_fake_quantize.FakeQuantize()(x))
    fused = torch_ao.FusedMovingAvgObsFakeQuantize(observer=ao_observer.MovingAverageMinMaxObserver)
    assert torch.equal(fused(x), ao_fake_quantize.FusedMovingAvgObsFakeQuantize()(x))
    torch_ao.FixedQParamsFakeQuantize(observer=ao_observer.default_fixed_qparams_range_0to1_observer)


@pytest.mark.parametrize(("name", "arguments"), [ACTIVATIONS[0], ACTIVATIONS[8], ACTIVATIONS[10], WEIGHTS[0]])
def test_copies_and_pickles_go_on_alone(name, arguments, pair, assert_same_state) -> None:
    _, mine = pair(name, **arguments)
    mine(torch.randn(4, 6))
    mine.disable_observer()
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert_same_state(mine, other)
        other.enable_observer()
        other(torch.randn(4, 6) * 100)
        assert not torch.equal(other.scale, mine.scale)
        assert int(mine.observer_enabled) == 0


def test_with_args_chains_and_later_arguments_win() -> None:
    make = torch_ao.FakeQuantize.with_args(quant_min=0, quant_max=15).with_args(quant_max=7)
    assert (make().quant_min, make().quant_max) == (0, 7)
    assert make(quant_max=3).quant_max == 3
    assert make() is not make()


def test_callable_arguments_are_called_each_time() -> None:
    seen = iter(range(1, 9))
    make = torch_ao.MinMaxObserver.with_callable_args(quant_max=lambda: next(seen)).with_args(quant_min=0)
    assert [make().quant_max, make().quant_max] == [1, 2]
    assert make(quant_max=77).quant_max == 77
    assert next(seen) == 3


def test_makers_are_equal_if_they_make_the_same() -> None:
    one = torch_ao.FakeQuantize.with_args(observer=torch_ao.MinMaxObserver, quant_min=0, quant_max=255)
    same = torch_ao.FakeQuantize.with_args(observer=torch_ao.MinMaxObserver, quant_min=0, quant_max=255)
    assert one == same
    assert hash(one) == hash(same)
    assert one != torch_ao.FakeQuantize.with_args(observer=torch_ao.MinMaxObserver, quant_min=0, quant_max=127)
    assert one != torch_ao.FakeQuantize


def test_the_functions_switch_ours_and_torch_aos() -> None:
    model = nn.Sequential(nn.Linear(2, 2), torch_ao.FakeQuantize(), ao_fake_quantize.FakeQuantize())
    for home in (torch_ao, ao_fake_quantize):
        for name, buffer, value in (
            ("disable_observer", "observer_enabled", 0),
            ("disable_fake_quant", "fake_quant_enabled", 0),
            ("enable_observer", "observer_enabled", 1),
            ("enable_fake_quant", "fake_quant_enabled", 1),
        ):
            model.apply(getattr(home, name))
            assert [int(getattr(module, buffer)) for module in model[1:]] == [value, value]


@pytest.mark.parametrize("qscheme", [torch.per_tensor_affine, torch.per_tensor_symmetric])
def test_a_moving_average_and_the_rounding_are_one_call(
    qscheme: torch.qscheme, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantizer = torch_ao.FakeQuantize(dtype=torch.qint8, quant_min=-128, quant_max=127, qscheme=qscheme)
    monkeypatch.setattr(torch_ao.MovingAverageMinMaxObserver, "forward", lambda *_: pytest.fail("several steps"))
    quantizer(torch.randn(9))
    assert quantizer.activation_post_process.min_val.isfinite()


def test_who_hooked_the_observer_or_overrode_its_rule_is_called() -> None:
    class Coarse(torch_ao.FakeQuantize):
        def calculate_qparams(self) -> Any:
            return torch.tensor([2.0]), torch.tensor([0])

    assert Coarse()(torch.tensor([3.1])).item() == 4.0
    quantizer, seen = torch_ao.FakeQuantize(), []
    quantizer.activation_post_process.register_forward_hook(lambda module, args, y: seen.append(args))
    quantizer(torch.randn(9))
    assert len(seen) == 1

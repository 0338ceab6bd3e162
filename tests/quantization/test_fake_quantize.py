"""The quantizer as a module: what it computes, keeps, loads, shows and refuses."""

from __future__ import annotations

import copy
import io
import math
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

from nashquant.dtype import qint8, qint16
from nashquant.quantization.fake_quantize import CalibrationWarning, FakeQuantize, FakeQuantizeSpec
from nashquant.quantization.observer import (
    FixedScaleObserver,
    HistogramObserver,
    MinMaxObserver,
    MSEObserver,
    scale_from_range,
)

PER_CHANNEL = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0, "channel_len": 4}
KEYS = {
    "fake_quant_enabled", "observer_enabled", "scale", "zero_point",
    "activation_post_process.min_val", "activation_post_process.max_val",
}  # fmt: skip


def calibrated(**arguments: object) -> FakeQuantize:
    quantizer = FakeQuantize(**arguments)
    quantizer(torch.linspace(-1, 1, 40).reshape(4, 10))
    quantizer.disable_observer()
    return quantizer


# What it computes


def test_documented_values_are_reproduced() -> None:
    quantizer = FakeQuantize(MinMaxObserver, dtype=qint8)
    assert quantizer(torch.tensor([0.9999191])).item() == pytest.approx(0.9959978, abs=5e-8)
    quantizer.set_qparams(0.0094101)
    quantizer.disable_observer()
    assert quantizer(torch.tensor([-1.6893446])).item() == pytest.approx(-1.2044872, abs=1e-5)


def test_a_fixed_scale_gives_multiples_of_it() -> None:
    quantizer = FakeQuantize(observer=FixedScaleObserver, dtype=qint16, scale=0.0625)
    y = quantizer(torch.randn(1, 2, 2, 6))
    assert torch.equal(y, (y / 0.0625).round() * 0.0625)
    assert quantizer.scale.item() == 0.0625


def test_ends_saturate_and_ties_go_to_even() -> None:
    quantizer = FakeQuantize(FixedScaleObserver, scale=1.0)
    x = torch.tensor([0.5, 1.5, -2.5, 1000.0, -1000.0, math.inf, -math.inf])
    assert quantizer(x).tolist() == [0.0, 2.0, -2.0, 127.0, -128.0, 127.0, -128.0]


@pytest.mark.parametrize("common", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_torch_ao_gives_the_same_numbers_while_training(common: dict[str, object]) -> None:
    theirs = pytest.importorskip("torch.ao.quantization")
    if common:
        observer = theirs.observer.MovingAveragePerChannelMinMaxObserver
        extra = {"ch_axis": 0}
    else:
        observer, extra = theirs.observer.MovingAverageMinMaxObserver, {}
    rival = theirs.FakeQuantize(
        observer=observer,
        quant_min=-128,
        quant_max=127,
        dtype=torch.qint8,
        qscheme=common.get("qscheme", torch.per_tensor_symmetric),
        **extra,
    )
    ours = FakeQuantize(**common)
    for step in range(10):
        x = torch.randn(4, 30) * (1 + step % 3)
        grad = torch.randn(4, 30)
        x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
        y1, y2 = rival(x1), ours(x2)
        y1.backward(grad)
        y2.backward(grad)
        assert torch.equal(y1, y2)
        assert torch.equal(x1.grad, x2.grad)
        assert torch.equal(rival.scale, ours.scale)


def test_the_two_switches_are_independent() -> None:
    x = torch.randn(100)
    for observe in (False, True):
        for quantize in (False, True):
            quantizer = FakeQuantize()
            quantizer.set_qparams(0.5)
            quantizer.enable_observer(observe)
            quantizer.enable_fake_quant(quantize)
            y = quantizer(x)
            assert (y is x) is not quantize
            assert (quantizer.scale.item() == 0.5) is not observe
            assert quantizer.observer_enabled.tolist() == [int(observe)]
            assert quantizer.fake_quant_enabled.tolist() == [int(quantize)]


def test_nothing_is_observed_outside_of_training_mode() -> None:
    quantizer = calibrated()
    quantizer.enable_observer()
    before = quantizer.scale.clone()
    quantizer.eval()(torch.randn(10) * 50)
    assert torch.equal(quantizer.scale, before)
    quantizer.train()(torch.randn(10) * 50)
    assert not torch.equal(quantizer.scale, before)


def test_requantize_never_observes() -> None:
    quantizer = calibrated()
    quantizer.enable_observer()
    scale = quantizer.scale.item()
    x = torch.randn(10) * 50
    y = quantizer.requantize(x)
    assert quantizer.scale.item() == scale
    quantizer.disable_observer()
    assert torch.equal(y, quantizer(x))
    quantizer.disable_fake_quant()
    assert quantizer.requantize(x) is x


def test_the_channel_axis_may_be_counted_from_the_end() -> None:
    last = FakeQuantize(qscheme=torch.per_channel_symmetric, ch_axis=-1, channel_len=3)
    first = FakeQuantize(qscheme=torch.per_channel_symmetric, ch_axis=0, channel_len=3)
    x = torch.randn(5, 3)
    assert torch.equal(last(x), first(x.T).T)


def test_a_per_tensor_quantizer_has_one_scale_whatever_the_channels() -> None:
    assert FakeQuantize(channel_len=64).scale.shape == (1,)


def test_a_shared_quantizer_may_observe_twice_before_backward() -> None:
    for arguments in ({}, PER_CHANNEL):
        quantizer = FakeQuantize(averaging_constant=1.0, **arguments)
        x = torch.linspace(-1, 1, 40).reshape(4, 10).requires_grad_()
        (quantizer(x) + quantizer(x * 2) + quantizer(quantizer(x))).sum().backward()
        assert torch.isfinite(x.grad).all()
        assert x.grad.abs().max() > 0


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_keep_their_type(arguments: dict[str, object], dtype: torch.dtype) -> None:
    quantizer = FakeQuantize(**arguments)
    y = quantizer(torch.randn(4, 10).to(dtype))
    assert y.dtype == dtype
    assert quantizer.scale.dtype == torch.float32


def test_empty_tensors_pass() -> None:
    quantizer = calibrated()
    quantizer.enable_observer()
    assert quantizer(torch.empty(0, 3)).shape == (0, 3)


# What it keeps


def test_the_state_dict_has_these_keys_whatever_the_observer() -> None:
    for observer in (MinMaxObserver, MSEObserver, HistogramObserver):
        assert set(FakeQuantize(observer).state_dict()) == KEYS
    fixed = FakeQuantize(FixedScaleObserver, scale=0.5)
    assert set(fixed.state_dict()) == KEYS
    state = FakeQuantize(**PER_CHANNEL).state_dict()
    assert {key: (value.shape, value.dtype) for key, value in state.items()} == {
        "fake_quant_enabled": ((1,), torch.uint8),
        "observer_enabled": ((1,), torch.uint8),
        "scale": ((4,), torch.float32),
        "zero_point": ((4,), torch.int32),
        "activation_post_process.min_val": ((4,), torch.float32),
        "activation_post_process.max_val": ((4,), torch.float32),
    }


def test_a_fresh_scale_is_one_and_not_set() -> None:
    quantizer = FakeQuantize()
    assert (quantizer.scale.tolist(), quantizer.zero_point.tolist()) == ([1.0], [0])
    assert not quantizer.has_scale
    assert FakeQuantize(FixedScaleObserver, scale=1.0).has_scale


def test_the_scale_is_always_that_of_the_range() -> None:
    quantizer = FakeQuantize(MSEObserver, **PER_CHANNEL)
    for _ in range(5):
        quantizer(torch.randn(4, 100))
        observer = quantizer.activation_post_process
        assert torch.equal(quantizer.scale, scale_from_range(observer.min_val, observer.max_val, -128, 127))


def test_a_calibration_checkpoint_continues_in_training() -> None:
    first = FakeQuantize(HistogramObserver)
    for _ in range(3):
        first(torch.randn(1000))
    training = FakeQuantize(MinMaxObserver, averaging_constant=0.01)
    training.load_state_dict(first.state_dict())
    assert training.has_scale
    assert torch.equal(training.scale, first.scale)
    frozen = FakeQuantize(MinMaxObserver, averaging_constant=0.0)
    frozen.load_state_dict(first.state_dict())
    frozen(torch.randn(1000) * 100)
    assert torch.equal(frozen.scale, first.scale)
    largest = max(abs(training.activation_post_process.min_val), training.activation_post_process.max_val)
    training(torch.tensor([-2.0, 2.0]) * largest)
    assert training.scale.item() == pytest.approx(1.01 * first.scale.item(), rel=1e-2)


def test_loading_brings_the_switches_along() -> None:
    source, target = calibrated(), FakeQuantize()
    source.disable_fake_quant()
    target.load_state_dict(source.state_dict())
    x = torch.randn(3)
    assert target(x) is x
    assert torch.equal(target.scale, source.scale)


def test_loading_an_unset_checkpoint_makes_the_scale_unset_again() -> None:
    target = calibrated()
    assert target.has_scale
    target.load_state_dict(FakeQuantize().state_dict())
    assert not target.has_scale


def test_edits_in_place_are_seen_at_once() -> None:
    quantizer = calibrated()
    x = torch.tensor([0.3])
    quantizer.scale.fill_(0.25)
    assert quantizer(x).item() == 0.25
    quantizer.scale.data.fill_(0.2)  # torch counts no version here
    assert quantizer(x).item() == pytest.approx(0.4)
    quantizer.scale = torch.tensor([1.0])
    assert quantizer(x).item() == 0.0


def test_a_fixed_scale_is_not_loaded_and_says_so_once() -> None:
    fixed = FakeQuantize(FixedScaleObserver, scale=0.25)
    fixed.name = "quant_x"
    state = calibrated().state_dict()
    with pytest.warns(CalibrationWarning, match=r"'quant_x' has the fixed scale 0.25; the scale 0.00784"):
        fixed.load_state_dict(state)
    fixed.load_state_dict(state)  # warnings are errors here
    assert fixed.scale.item() == 0.25
    assert fixed.activation_post_process.max_val.item() == 0.25 * 127.5
    assert state["scale"].item() != 0.25
    fixed.load_state_dict(FakeQuantize(FixedScaleObserver, scale=0.25).state_dict())  # the same: no warning


def test_loading_by_assignment_keeps_f32_and_fixed_scales() -> None:
    state = calibrated().state_dict()
    state = {key: value.double() if value.is_floating_point() else value for key, value in state.items()}
    target = FakeQuantize()
    target.load_state_dict(state, assign=True)
    assert target.scale.dtype == target.activation_post_process.min_val.dtype == torch.float32
    fixed = FakeQuantize(FixedScaleObserver, scale=0.25)
    with pytest.warns(CalibrationWarning):
        fixed.load_state_dict(state, assign=True)
    assert fixed.scale.item() == 0.25


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("scale", torch.ones(8), r"scale has 8 values, expected 4 \(while loading 'conv.weight'\)"),
        ("scale", torch.tensor([1.0, math.nan, 1.0, 1.0]), r"scale is nan, .* \(while loading 'conv.weight'\)"),
        ("scale", torch.zeros(4), "scale is 0, expected a positive finite number"),
        ("zero_point", torch.full((4,), 2, dtype=torch.int32), r"zero_point is .*, expected 0"),
        ("activation_post_process.min_val", torch.ones(3), "size mismatch for .*min_val"),
    ],
)
def test_an_unfit_checkpoint_names_the_quantizer(key: str, value: Tensor, message: str) -> None:
    quantizer = calibrated(**PER_CHANNEL)
    quantizer.name = "conv.weight"
    before = quantizer.scale.clone()
    with pytest.raises(RuntimeError, match=message):
        quantizer.load_state_dict({**quantizer.state_dict(), key: value})
    assert torch.equal(quantizer.scale, before)


def test_an_unnamed_quantizer_is_named_by_its_place() -> None:
    model = nn.ModuleDict({"conv": nn.ModuleDict({"weight_fake_quant": FakeQuantize(**PER_CHANNEL)})})
    state = model.state_dict() | {"conv.weight_fake_quant.scale": torch.ones(3)}
    with pytest.raises(RuntimeError, match=r"while loading 'conv\.weight_fake_quant'"):
        model.load_state_dict(state)


def test_set_qparams_sets_scale_and_range() -> None:
    quantizer = FakeQuantize(**PER_CHANNEL)
    quantizer.set_qparams([0.1, 0.2, 0.3, 0.4])
    assert torch.equal(quantizer.scale, torch.tensor([0.1, 0.2, 0.3, 0.4]))
    assert quantizer.has_scale
    quantizer.set_qparams(0.5, zero_point=0)
    assert quantizer.activation_post_process.max_val.tolist() == [63.75] * 4
    fixed = FakeQuantize(FixedScaleObserver, scale=1.0)
    fixed.set_qparams(0.25)
    assert fixed(torch.tensor([0.3])).item() == 0.25
    assert fixed.activation_post_process.calculate_qparams()[0].item() == 0.25


@pytest.mark.parametrize(
    ("scale", "zero_point", "message"),
    [
        (0.0, 0, "scale is 0"),
        (math.nan, 0, "scale is nan"),
        (1e-45, 0, "scale is 1.4013e-45"),
        ([1.0, 2.0], 0, "scale has 2 values, expected 4"),
        (1.0, 1, "zero_point is 1, expected 0"),
    ],
)
def test_bad_qparams_change_nothing(scale: object, zero_point: int, message: str) -> None:
    quantizer = calibrated(**PER_CHANNEL)
    before = copy.deepcopy(quantizer.state_dict())
    with pytest.raises(ValueError, match=message):
        quantizer.set_qparams(scale, zero_point)
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


# How it lives in a model


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL, {"observer": HistogramObserver}])
def test_copies_and_files_go_on_alike(arguments: dict[str, object]) -> None:
    quantizer = FakeQuantize(**arguments)
    quantizer.name = "here"
    quantizer(torch.randn(4, 10))
    file = io.BytesIO()
    torch.save(quantizer, file)
    file.seek(0)
    copies = [copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer)), torch.load(file, weights_only=False)]
    x = torch.randn(4, 10) * 2
    y = quantizer(x)
    for one in copies:
        assert one.name == "here"
        assert torch.equal(one(x), y)
        assert one.scale is not quantizer.scale


@pytest.mark.parametrize("convert", [nn.Module.half, nn.Module.bfloat16, nn.Module.double])
def test_half_and_double_leave_the_scale_in_f32(convert: object) -> None:
    model = nn.Sequential(nn.Linear(3, 3), calibrated())
    before = {key: value.clone() for key, value in model[1].state_dict().items()}
    convert(model)  # type: ignore[operator]
    assert model[0].weight.dtype != torch.float32
    for key, value in model[1].state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_inference_mode_and_no_grad_compute_the_same(arguments: dict[str, object]) -> None:
    x = torch.randn(4, 10)
    quantizers = [FakeQuantize(**arguments) for _ in range(3)]
    plain = quantizers[0](x)
    with torch.inference_mode():
        inference = quantizers[1](x).clone()
    with torch.no_grad():
        no_grad = quantizers[2](x)
    assert torch.equal(plain, inference)
    assert torch.equal(plain, no_grad)
    assert torch.equal(quantizers[1](x * 3), quantizers[0](x * 3))


def test_a_quantizer_made_in_inference_mode_works_there() -> None:
    with torch.inference_mode():
        quantizer = FakeQuantize()
        assert quantizer(torch.tensor([1.0])).item() == pytest.approx(127 / 127.5)


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_compiled_training_computes_what_eager_does(arguments: dict[str, object]) -> None:
    eager = FakeQuantize(**arguments)
    compiled = copy.deepcopy(eager)
    run = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for _ in range(3):
        x = torch.randn(4, 10)
        x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
        y1, y2 = eager(x1), run(x2)
        y1.sum().backward()
        y2.sum().backward()
        assert torch.equal(y1, y2)
        assert torch.equal(x1.grad, x2.grad)
        assert torch.equal(eager.scale, compiled.scale)
    frozen = copy.deepcopy(compiled).eval()
    assert frozen.has_scale
    assert torch.equal(torch.compile(frozen, fullgraph=True, backend="aot_eager")(x), frozen(x))


def test_compiled_observing_stops_at_nan_too() -> None:
    quantizer = FakeQuantize()
    quantizer.name = "layer1"
    run = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    run(torch.randn(10))
    before = quantizer.scale.clone()
    with pytest.raises(RuntimeError, match=r"NaN or infinite values .*'layer1'"):
        run(torch.full((10,), math.nan))
    assert torch.equal(quantizer.scale, before)


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
def test_export_sees_one_node(arguments: dict[str, object]) -> None:
    quantizer = calibrated(**arguments).eval()
    x = torch.randn(4, 10)
    program = torch.export.export(quantizer, (x,), strict=False)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert len(calls) == 1
    assert calls[0].startswith("nashquant.fake_quantize_per_")
    assert torch.equal(program.module()(x), quantizer(x))


def test_functional_transforms_see_through() -> None:
    quantizer = calibrated()
    x = torch.randn(5, 10)
    assert torch.equal(torch.func.vmap(quantizer)(x), quantizer(x))
    grad = torch.func.grad(lambda v: quantizer(v).sum())(x)
    assert set(grad.unique().tolist()) <= {0.0, 1.0}


# What it refuses


def test_bad_tensors_name_the_quantizer() -> None:
    quantizer = FakeQuantize()
    quantizer.name = "layer1.relu"
    with pytest.raises(TypeError, match=r"x is torch.int64, .* \(while observing 'layer1.relu'\)"):
        quantizer(torch.arange(3))
    with pytest.raises(ValueError, match=r"1 NaN or infinite values among 2, .* \(while observing 'layer1.relu'\)"):
        quantizer(torch.tensor([1.0, math.nan]))
    assert quantizer.scale.item() == 1.0
    assert not quantizer.has_scale
    fixed = FakeQuantize(FixedScaleObserver, scale=1.0)
    with pytest.raises(TypeError, match=r"\(while quantizing an unnamed FakeQuantize\)"):
        fixed(torch.arange(3))


@pytest.mark.parametrize("arguments", [{}, PER_CHANNEL], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf, 1e-45])
def test_a_scale_gone_bad_names_the_quantizer(arguments: dict[str, object], scale: float) -> None:
    quantizer = calibrated(**arguments)
    quantizer.name = "head"
    quantizer.scale.fill_(scale)
    with pytest.raises(ValueError, match=r"scale.* \(while quantizing 'head'\)"):
        quantizer(torch.randn(4, 10))


def test_the_observer_is_a_class_of_ours() -> None:
    for wrong in (nn.Identity, MinMaxObserver(), "min_max"):
        with pytest.raises(TypeError, match=r"expected a class from nashquant.quantization.observer"):
            FakeQuantize(observer=wrong)
    with pytest.raises(TypeError, match=r"MinMaxObserver does not take 'scale'; it takes averaging_constant, "):
        FakeQuantize(MinMaxObserver, scale=0.5)


def test_a_scale_never_set_is_used_with_one_warning() -> None:
    quantizer = FakeQuantize().eval()
    quantizer.name = "layer1"
    with pytest.warns(CalibrationWarning, match=r"'layer1' quantizes with scale 1, because .* never set"):
        y = quantizer(torch.tensor([1.6]))
    quantizer(torch.tensor([1.6]))  # warnings are errors here
    assert y.item() == 2.0


def test_a_scale_of_one_that_was_observed_is_set() -> None:
    quantizer = FakeQuantize()
    quantizer(torch.tensor([127.5]))
    assert quantizer.scale.item() == 1.0
    copied = FakeQuantize().eval()
    copied.load_state_dict(quantizer.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied(torch.tensor([1.6]))


# The spec


def test_a_spec_is_a_value() -> None:
    spec = FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=torch.tensor(0.0625))
    same = FakeQuantize.with_args(scale=0.0625, dtype=qint16, observer=FixedScaleObserver)
    assert spec == same
    assert hash(spec) == hash(same)
    assert len({spec, same, spec.replace(scale=0.125)}) == 2
    assert repr(spec) == "FakeQuantize.with_args(observer=FixedScaleObserver, dtype=qint16, scale=0.0625)"
    assert (spec.observer, spec.dtype, spec.kwargs) == (FixedScaleObserver, qint16, {"dtype": qint16, "scale": 0.0625})
    assert pickle.loads(pickle.dumps(spec)) == copy.deepcopy(spec) == spec
    with pytest.raises(AttributeError):
        spec.observer = MinMaxObserver  # type: ignore[misc]


def test_a_spec_makes_quantizers() -> None:
    spec = FakeQuantize.with_args(MSEObserver, stride=5, qscheme=torch.per_channel_symmetric, ch_axis=0)
    assert isinstance(spec, FakeQuantizeSpec)
    assert spec.dtype == qint8
    quantizer = spec(channel_len=7)
    assert quantizer.scale.shape == (7,)
    assert quantizer.activation_post_process.stride == 5
    assert spec(channel_len=7) is not quantizer
    assert spec.replace(dtype=qint16)().dtype == qint16


def test_a_spec_keeps_the_subclass_and_lists() -> None:
    class Mine(FakeQuantize):
        pass

    spec = Mine.with_args(
        FixedScaleObserver,
        scale=[0.1, 0.2],
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        factory_kwargs={"device": "cpu"},
    )
    assert hash(spec) == hash(spec.replace())
    assert type(spec()) is Mine
    assert spec().scale.tolist() == pytest.approx([0.1, 0.2])


def test_a_wrong_argument_is_an_error_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"MSEObserver does not take 'sride'; it takes stride, "):
        FakeQuantize.with_args(observer=MSEObserver, sride=2)
    with pytest.raises(TypeError, match=r"dtype is torch.qint8"):
        FakeQuantize.with_args(dtype=torch.qint8)
    with pytest.raises(ValueError, match="scale is 0"):
        FakeQuantize.with_args(observer=FixedScaleObserver, scale=0.0)
    with pytest.raises(TypeError, match="MinMaxObserver does not take 'stride'"):
        FakeQuantize.with_args(observer=MSEObserver, stride=2).replace(observer=MinMaxObserver)


# What it shows


def test_repr_shows_what_a_person_needs() -> None:
    quantizer = FakeQuantize()
    assert "scale=1 (never set)" in repr(quantizer)
    quantizer(torch.tensor([-0.5, 0.9999191]))
    assert repr(quantizer) == (
        "FakeQuantize(\n"
        "  fake_quant_enabled=True, observer_enabled=True, quant_min=-128, quant_max=127, dtype=qint8, "
        "qscheme=torch.per_tensor_symmetric, ch_axis=-1, scale=0.007842503, zero_point=0\n"
        "  (activation_post_process): MinMaxObserver(averaging_constant=0.01, min_val=-0.5, max_val=0.9999191)\n"
        ")"
    )


def test_repr_works_without_values() -> None:
    assert "scale=on meta (never set)" in repr(FakeQuantize().to("meta"))
    assert "scale=on meta, " in repr(calibrated().to("meta"))


def test_repr_shortens_many_scales() -> None:
    per_channel = {"qscheme": torch.per_channel_symmetric, "ch_axis": 0}
    few = FakeQuantize(FixedScaleObserver, scale=[0.5, 0.25], **per_channel)
    assert "scale=[0.5, 0.25], " in repr(few)
    many = FakeQuantize(FixedScaleObserver, scale=0.5, channel_len=64, **per_channel)
    assert "scale=[0.5, 0.5, ..., 0.5] (64 channels), " in repr(many)

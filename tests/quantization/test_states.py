"""Calibrate, train, validate: what each state does to a model, and what is said when it does nothing."""

from __future__ import annotations

import copy
import itertools
import warnings

import pytest
import torch
from torch import Tensor, nn

from nashquant.dtype import qint8
from nashquant.quantization.fake_quantize import (
    CalibrationWarning,
    FakeQuantize,
    FakeQuantState,
    set_fake_quantize,
    unset_scales,
)
from nashquant.quantization.observer import FixedScaleObserver, MinMaxObserver


class Layer(nn.Module):
    """What a prepared Linear looks like to a quantizer."""

    def __init__(self, act: FakeQuantize | None = None) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.5)
        self.weight_fake_quant = FakeQuantize(
            averaging_constant=1.0, qscheme=torch.per_channel_symmetric, ch_axis=0, channel_len=4
        )
        self.activation_post_process = act or FakeQuantize()

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight_fake_quant(self.linear.weight)
        return self.activation_post_process(self.dropout(nn.functional.linear(x, weight, self.linear.bias)))


def test_a_checkpoint_of_another_state_ends_the_state_and_says_so() -> None:
    calibrated, model = Layer().eval(), Layer()
    set_fake_quantize(calibrated, FakeQuantState.CALIBRATION)
    calibrated(torch.randn(8, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_state_dict(calibrated.state_dict())  # no state was asked yet
    set_fake_quantize(model.train(), FakeQuantState.QAT)
    told = r"load_state_dict ended the state QAT: .*first met at .*FakeQuantState\.QAT\) again, after load_state_dict"
    with pytest.warns(CalibrationWarning, match=told) as caught:
        model.load_state_dict(calibrated.state_dict())
    assert len(caught) == 1
    set_fake_quantize(model, FakeQuantState.QAT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.load_state_dict(model.state_dict())


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = Layer()
        self.head = Layer()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def quantizers(model: nn.Module) -> list[FakeQuantize]:
    return [module for module in model.modules() if isinstance(module, FakeQuantize)]


def scales(model: nn.Module) -> list[list[float]]:
    return [quantizer.scale.tolist() for quantizer in quantizers(model)]


def calibrated() -> Model:
    model = Model().eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        model(torch.randn(8, 4))
    return model


def warned(record: list[warnings.WarningMessage]) -> list[str]:
    return [str(one.message) for one in record]


# The states


@pytest.mark.parametrize(
    ("state", "observe", "quantize"),
    [
        (FakeQuantState.CALIBRATION, True, False),
        (FakeQuantState.QAT, True, True),
        (FakeQuantState.VALIDATION, False, True),
        (FakeQuantState._FLOAT, False, False),
    ],
)
def test_each_state_sets_both_switches(state: FakeQuantState, observe: bool, quantize: bool) -> None:
    for given in (state, state.value):
        model = calibrated()
        set_fake_quantize(model, given)
        for quantizer in quantizers(model):
            assert quantizer.observer_enabled.item() == observe
            assert quantizer.fake_quant_enabled.item() == quantize
            x = torch.randn(4, 4)
            assert (quantizer(x) is x) is not quantize


def test_calibration_observes_in_an_eval_model_and_leaves_the_rest_in_eval() -> None:
    model = Model().eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    assert not model.training
    assert not model.backbone.dropout.training
    x = torch.randn(8, 4)
    y = model(x)
    plain = model.head.linear(model.backbone.linear(x))
    assert torch.equal(y, plain)  # no dropout, no rounding
    assert unset_scales(model) == []


def test_validation_rounds_and_never_observes() -> None:
    model = calibrated().eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    before = scales(model)
    y = model(torch.randn(8, 4) * 100)
    assert scales(model) == before
    scale = model.head.activation_post_process.scale
    assert torch.allclose(y, (y / scale).round() * scale)
    model.train()(torch.randn(8, 4) * 100)
    assert scales(model) == before


def test_qat_rounds_and_observes_while_training_only() -> None:
    model = calibrated()
    model.train()
    set_fake_quantize(model, FakeQuantState.QAT)
    before = scales(model)
    model(torch.randn(8, 4) * 100)
    moved = scales(model)
    assert moved != before
    model.eval()(torch.randn(8, 4) * 100)
    assert scales(model) == moved


def test_float_is_the_float_model() -> None:
    model = calibrated().eval()
    set_fake_quantize(model, FakeQuantState._FLOAT)
    x = torch.randn(8, 4)
    assert torch.equal(model(x), model.head.linear(model.backbone.linear(x)))


def test_a_frozen_backbone_stays_while_the_head_trains() -> None:
    model = calibrated()
    model.train()
    model.backbone.requires_grad_(False).eval()
    set_fake_quantize(model.backbone, FakeQuantState.VALIDATION)
    set_fake_quantize(model.head, FakeQuantState.QAT)
    frozen, training = copy.deepcopy(model.backbone.state_dict()), scales(model.head)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        model(torch.randn(8, 4) * 10).square().sum().backward()
        optimizer.step()
    assert all(torch.equal(value, frozen[key]) for key, value in model.backbone.state_dict().items())
    assert scales(model.head) != training


@pytest.mark.parametrize("order", list(itertools.permutations(FakeQuantState, 3)))
def test_a_fixed_scale_stays_in_every_state(order: tuple[FakeQuantState, ...]) -> None:
    layer = Layer(FakeQuantize(FixedScaleObserver, scale=0.0625))
    layer.weight_fake_quant.set_qparams(0.5)
    for state in order:
        layer.train()
        layer.dropout.eval()
        set_fake_quantize(layer, state)
        layer(torch.randn(8, 4) * 100)
        assert layer.activation_post_process.scale.tolist() == [0.0625]


@pytest.mark.parametrize("state", [FakeQuantState.CALIBRATION, FakeQuantState.VALIDATION])
def test_dropouts_and_batch_norms_in_train_mode_are_named_once(state: FakeQuantState) -> None:
    model = nn.ModuleDict({"layer": Layer(), "bn": nn.BatchNorm2d(2), "none": nn.Dropout(0.0)})
    for quantizer in quantizers(model):
        quantizer.set_qparams(0.5)
    with pytest.warns(CalibrationWarning) as said:
        set_fake_quantize(model, state)
    (warning,) = said
    assert str(warning.message) == (
        f"set_fake_quantize({state.name}) while in train mode: layer.dropout, bn. Dropouts drop, and batch norms "
        f"follow the data: call model.eval() first, then set_fake_quantize(model, FakeQuantState.{state.name})"
    )
    set_fake_quantize(model.eval(), state)  # says nothing
    set_fake_quantize(model.train(), FakeQuantState.QAT)


def test_a_frozen_scale_comes_from_the_checkpoint_and_stays() -> None:
    frozen = nn.Sequential(FakeQuantize(MinMaxObserver, averaging_constant=0.0))
    source = nn.Sequential(FakeQuantize())
    source(torch.tensor([-3.0, 1.0]))
    frozen.load_state_dict(source.state_dict())
    set_fake_quantize(frozen.train(), FakeQuantState.QAT)
    frozen(torch.randn(10) * 100)
    assert torch.equal(frozen[0].scale, source[0].scale)


def test_states_survive_copies_and_the_whole_workflow() -> None:
    model = calibrated()
    qat = Model()
    qat.load_state_dict(copy.deepcopy(model).state_dict())
    qat.train()
    set_fake_quantize(qat, "qat")
    qat(torch.randn(8, 4)).sum().backward()
    assert all(p.grad is not None for p in qat.parameters())
    qat.eval()
    set_fake_quantize(qat, "validation")
    x = torch.randn(8, 4)
    assert torch.equal(copy.deepcopy(qat)(x), qat(x))


# What is said


def test_eval_after_calibration_is_said_once_and_observes_nothing() -> None:
    model = Model().eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    model.eval()
    with pytest.warns(CalibrationWarning, match=r"eval\(\) was called after set_fake_quantize\(CALIBRATION\)") as seen:
        model(torch.randn(8, 4))
    assert len(seen) == 1
    model(torch.randn(8, 4))  # warnings are errors here
    assert len(unset_scales(model)) == 4
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    model(torch.randn(8, 4))
    assert unset_scales(model) == []
    model.eval()
    with pytest.warns(CalibrationWarning, match="nothing is observed"):
        model(torch.randn(8, 4))


def test_the_documented_order_is_quiet() -> None:
    model = Model().eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    model(torch.randn(8, 4))
    model.eval()
    set_fake_quantize(model, FakeQuantState.VALIDATION)
    model(torch.randn(8, 4))


def test_validation_without_calibration_names_the_quantizers_once() -> None:
    model = Model().eval()
    model.head.activation_post_process.name = "the head"
    with pytest.warns(CalibrationWarning, match="4 of 4 quantizers never had their scale set") as seen:
        set_fake_quantize(model, FakeQuantState.VALIDATION)
    (message,) = warned(seen.list)
    for name in (
        "backbone.weight_fake_quant",
        "backbone.activation_post_process",
        "head.weight_fake_quant",
        "the head",
    ):
        assert name in message
    assert "no data reaches them" in message
    model(torch.randn(8, 4))  # said already


def test_a_long_list_of_names_is_cut() -> None:
    model = nn.Sequential(*(FakeQuantize() for _ in range(11)))
    with pytest.warns(CalibrationWarning, match=r"11 of 11 .*: 0, 1, 2, 3, 4, 5, 6, 7 and 3 more"):
        set_fake_quantize(model, FakeQuantState.VALIDATION)


def test_one_warning_for_a_model_used_without_scales() -> None:
    model = Model().eval()
    set_fake_quantize(model, FakeQuantState.QAT)
    with pytest.warns(CalibrationWarning, match="quantizes with scale 1") as seen:
        model(torch.randn(8, 4))
    assert len(seen) == 1


def test_a_branch_without_data_is_listed() -> None:
    model = nn.ModuleDict(
        {"used": FakeQuantize(), "unused": FakeQuantize(), "fixed": FakeQuantize(FixedScaleObserver, scale=1)}
    )
    model["used"](torch.randn(3))
    assert unset_scales(model) == ["unused"]
    assert unset_scales(FakeQuantize()) == [""]


def test_empty_batches_leave_scales_unset() -> None:
    model = Model().eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    model(torch.empty(0, 4))
    assert unset_scales(model) == ["backbone.activation_post_process", "head.activation_post_process"]


def test_a_model_without_quantizers_is_said_plainly() -> None:
    with pytest.warns(
        CalibrationWarning, match=r"changed nothing: there is no quantizer in this Linear. Was it prepared"
    ):
        set_fake_quantize(nn.Linear(2, 2), FakeQuantState.QAT)


@pytest.mark.parametrize("state", ["train", "", None, 3])
def test_a_wrong_state_lists_the_states_and_changes_nothing(state: object) -> None:
    model = Model()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(
        ValueError, match=rf"state is {state!r}, expected one of FakeQuantState.QAT \('qat'\), .*'float'"
    ):
        set_fake_quantize(model, state)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::nashquant.quantization.fake_quantize.CalibrationWarning")
@pytest.mark.parametrize("state", FakeQuantState)
def test_a_state_may_be_named_in_any_case(state: FakeQuantState) -> None:
    expected = Model()
    set_fake_quantize(expected, state)
    for name in (state.name, state.name.capitalize(), state.value.upper(), state.value):
        model = Model()
        set_fake_quantize(model, name)
        for key, value in expected.state_dict().items():
            if key.endswith("_enabled"):
                assert torch.equal(model.state_dict()[key], value), key


def test_a_model_is_a_module() -> None:
    with pytest.raises(TypeError, match=r"model is str, expected a torch.nn.Module"):
        set_fake_quantize("model", FakeQuantState.QAT)


def test_warnings_as_errors_leave_the_model_as_it_was() -> None:
    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CalibrationWarning):
            set_fake_quantize(model, FakeQuantState.VALIDATION)
    assert all(quantizer.observer_enabled.item() == 1 for quantizer in quantizers(model))


def test_the_default_dtype_is_int8_and_both_switches_start_on() -> None:
    quantizer = FakeQuantize()
    assert quantizer.dtype is qint8
    assert (quantizer.observer_enabled.item(), quantizer.fake_quant_enabled.item()) == (1, 1)

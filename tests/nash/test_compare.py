from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nashquant.nash import Comparison, compare, convert
from nashquant.quantization import DeQuantStub, QuantStub, get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.observer import MinMaxObserver
from nashquant.quantization.setter import TemplateQconfigSetter


class Twice(nn.Module):
    """Calls one block twice, so that one quantizer is two places."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.block, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block(self.quant(x))
        return self.dequant(self.head(torch.relu(self.block(torch.relu(x))).flip(1)))  # a move, with a pair of its own


@pytest.fixture
def pair(tmp_path: Path):
    x = torch.randn(32, 6)
    made = prepare(Twice().eval(), (x,), TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver)), save_dir=None)
    set_fake_quantize(made.eval(), "calibration")
    with torch.no_grad():
        made(x)
    set_fake_quantize(made.eval(), "validation")
    return made, convert(export(made, x, path=tmp_path / "m.onnx", dynamic_batch=True, verify=False)), x


def test_each_quantizer_is_compared_at_each_of_its_calls(pair):
    prepared, integer, x = pair
    found = compare(prepared, integer, [x, (x[:5],)])
    names = [layer.layer for layer in found.layers]
    assert names.count("block") == 2
    assert "quant" in names
    assert found.unmatched == ()
    assert [layer.count for layer in found.layers if layer.layer == "quant"] == [37 * 6]
    assert all(layer.equal > 0.98 and layer.largest <= 1 for layer in found.layers)
    assert found.top1 is not None
    assert found.top1 > 0.9


def test_the_export_of_another_model_is_refused(pair, tmp_path: Path):
    prepared, _, x = pair

    class Wider(Twice):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(6, 4)

    wider = prepare(Wider().eval(), (x,), TemplateQconfigSetter(get_qconfig()), save_dir=None)
    set_fake_quantize(wider.eval(), "calibration")
    wider(x)
    set_fake_quantize(wider.eval(), "validation")
    other = convert(export(wider, x, path=tmp_path / "wider.onnx", verify=False))
    with pytest.raises(ValueError, match=r"shapes \[\(32, 3\)\], the integer model \[\(32, 4\)\]: is it the export"):
        compare(prepared, other, [x])


class Loop(nn.Module):
    """Its state begins as zeros, of which the exporter computes the first call of `state`, and all of `inner`'s."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.zeros, self.dequant = QuantStub(), QuantStub(), DeQuantStub()
        self.inner, self.state = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        h = self.zeros(torch.zeros_like(x[:, 0]))
        for t in range(3):
            h = torch.tanh(self.state(self.inner(h)) + x[:, t])
        return self.dequant(h)


def test_a_call_of_a_constant_does_not_shift_those_behind_it(tmp_path: Path):
    x = torch.randn(32, 3, 6)
    made = prepare(Loop().eval(), (x,), TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver)), save_dir=None)
    for state in ("calibration", "validation"):
        set_fake_quantize(made.eval(), state)
        made(x)
    found = compare(made, convert(export(made, x, path=tmp_path / "m.onnx", verify=False)), x)
    names = [layer.layer for layer in found.layers]
    assert names.count("state") == names.count("inner") == 2
    assert found.unmatched == ()
    assert all(layer.equal > 0.95 for layer in found.layers), str(found)


def test_calls_that_cannot_be_told_apart_are_not_compared(pair):
    prepared, integer, x = pair
    points = [replace(point, call="") for point in integer.points]
    first = next(point for point in points if point.quantizer.startswith("block"))
    found = compare(prepared, replace(integer, points=tuple(point for point in points if point != first)), x)
    assert "block" not in [layer.layer for layer in found.layers]
    assert found.unmatched == ("block.activation_post_process (2 calls in the prepared model, 1 in the integer one)",)


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        x[:, 0] = x[:, 1] * 0.5
        return self.dequant(torch.tanh(x.mul_(2)))


def test_what_is_overwritten_later_is_compared_as_it_was(tmp_path: Path):
    x = torch.randn(32, 6)
    made = prepare(InPlace().eval(), (x,), TemplateQconfigSetter(get_qconfig(observer=MinMaxObserver)), save_dir=None)
    for state in ("calibration", "validation"):
        set_fake_quantize(made.eval(), state)
        made(x)
    found = compare(made, convert(export(made, x, path=tmp_path / "m.onnx", verify=False)), x)
    assert len(found.layers) > 3
    assert all(layer.equal > 0.98 and layer.largest <= 1 for layer in found.layers), str(found)


def test_a_wrong_integer_is_seen(pair):
    prepared, integer, x = pair
    with torch.no_grad():
        prepared.quant.activation_post_process.scale.mul_(1.5)
    changed = compare(prepared, integer, x).layers[0]
    assert changed.equal < 0.5
    assert changed.largest > 1


def test_saturation_is_a_share(pair):
    prepared, integer, x = pair
    calm, wild = (compare(prepared, integer, x * gain).layers[0].saturated for gain in (0.5, 100))
    assert calm == 0
    assert wild > 0.9


def test_it_prints_and_goes_to_json(pair):
    prepared, integer, x = pair
    found = compare(prepared, integer, x)
    assert "largest difference of the outputs" in str(found)
    assert json.loads(json.dumps(found.to_dict()))["layers"][0]["layer"] == "quant"


def test_overflows_are_printed_with_their_layer():
    found = Comparison((), {"head": 12, "conv": 3}, (0.1,), None, ())
    assert "accumulators that left the chip's 32 bits: head 12, conv 3" in str(found)


def test_the_prepared_model_is_as_before(pair):
    prepared, integer, x = pair
    before = {name: len(module._forward_hooks) for name, module in prepared.named_modules()}
    y = prepared(x)
    compare(prepared, integer, x)
    assert {name: len(module._forward_hooks) for name, module in prepared.named_modules()} == before
    assert torch.equal(prepared(x), y)


def test_no_data_and_another_model_are_refused(pair):
    prepared, integer, _ = pair
    with pytest.raises(ValueError, match="data is empty: nothing was compared"):
        compare(prepared, integer, [])
    with pytest.raises(ValueError, match="no quantizer of the prepared model"):
        compare(nn.Linear(2, 2), integer, [])
    with pytest.raises(TypeError, match="the prepared model, then the integer model, not IntegerModel and Twice"):
        compare(integer, prepared, [])


def test_other_shapes_are_told_as_such(pair):
    prepared, integer, x = pair
    prepared.quant.register_forward_hook(lambda _, __, y: y[:, :1].expand(-1, 6))
    prepared.quant.activation_post_process.register_forward_hook(lambda _, __, y: y[:, :1])
    found = compare(prepared, integer, x)
    told = "quant.activation_post_process ([32, 1] in the prepared model, [32, 6] in the integer one)"
    assert told in found.unmatched, found.unmatched


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda m: m.train(), "^compare needs eval mode, but in training mode is 'the model itself'"),
        (lambda m: m.head.train(), "^compare needs eval mode, but in training mode is 'head'"),
        (lambda m: set_fake_quantize(m, "calibration"), "^compare needs the states of export, but 'quant.activation_p"),
        (lambda m: set_fake_quantize(m, "qat"), "^compare needs the states of export, but 'quant.activation_post_pro"),
    ],
)
def test_a_model_that_trains_or_observes_is_refused_and_goes_on_as_it_was(pair, spoil, message):
    prepared, integer, x = pair
    spoil(prepared)
    before = [(m.training, getattr(m, "observer_enabled", None)) for m in prepared.modules()]
    with pytest.raises(RuntimeError, match=message):
        compare(prepared, integer, x)
    assert [(m.training, getattr(m, "observer_enabled", None)) for m in prepared.modules()] == before

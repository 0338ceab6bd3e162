"""What is compared with ONNX Runtime, in which unit, and what explains the difference."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nashquant.dtype import qint8, qint16
from nashquant.quantization.hbdk4 import Agreement, _verify, export
from nashquant.quantization.hbdk4._agree import Place, Point, merged
from nashquant.quantization.hbdk4._grid import Grid
from nashquant.quantization.hbdk4._reasons import Reasons

from .small_models import OneQuantizer, QuantizedLinear, ResidualBlock, quantizer, run


def grid(scale: float, qmin: int = -128, qmax: int = 127) -> Grid:
    return Grid(torch.tensor(scale), torch.tensor(0), None, qmin, qmax)


def test_differences_are_counted_in_steps() -> None:
    place = Point("a", torch.tensor([0.0, 1.0, -1.0]), grid(0.5)).compare(torch.tensor([0.5, 1.0, 0.0]))
    assert (place.dtype, place.elements, place.unequal, place.steps) == ("int8", 3, 2, 2.0)
    assert place.equal == pytest.approx(1 / 3)
    per_channel = Grid(torch.tensor([0.1, 10.0]), torch.zeros(2, dtype=torch.int64), 0, -128, 127)
    assert Point("b", torch.ones(2, 1), per_channel).compare(torch.tensor([[1.0], [6.0]])).steps == 0.5
    assert Point("empty", torch.empty(0), grid(1.0)).compare(torch.empty(0)).equal == 1.0


def test_a_nan_is_a_difference() -> None:
    place = Point("a", torch.tensor([1.0]), grid(1.0)).compare(torch.tensor([torch.nan]))
    assert place.unequal == 1
    assert Agreement((place,), ()).beyond == ("a",)


def test_integers_and_bools_must_be_the_same() -> None:
    place = Point("a", torch.tensor([1, 2]), None).compare(torch.tensor([1, 3]))
    assert (place.dtype, place.unequal, place.allowed) == ("exact", 1, 0.0)


def test_an_output_in_high_precision_is_measured_in_int8_steps_of_its_range() -> None:
    place = Point("a", torch.tensor([-127.5, 3.0]), None).compare(torch.tensor([-127.5, 4.0]))
    assert (place.dtype, place.steps, place.unequal) == ("high precision", 1.0, 1)


def test_a_quantizer_that_runs_twice_is_one_place() -> None:
    first, second, other = (
        Place("a", "int8", 10, 1, 1.0, 2.0, Reasons(divided=1, from_tie=0.1, bound=0.2)),
        Place("a", "int8", 30, 3, 2.0, 2.0, Reasons(added=2, unexplained=1, from_tie=0.2, bound=0.1)),
        Place("b", "int8", 5, 0, 0.0, 2.0),
    )
    both = Reasons(divided=1, added=2, unexplained=1, from_tie=0.2, bound=0.2)
    assert merged([first, other, second]) == (Place("a", "int8", 40, 4, 2.0, 2.0, both), other)
    assert Agreement((first, second), ()).unexplained == 1
    assert Agreement((Place("c", "int8", 5, 3, 1.0, 2.0),), ()).unexplained == 3


# 127.5 steps of int16 that fall on a tie after one of the two ways of dividing, found by looking at all of them.
def ties_of_division(scale: float) -> Tensor:
    x = (torch.arange(-32768, 32767, dtype=torch.float64) + 0.5).mul(scale).float()
    step = torch.tensor(scale)
    return x[(x / step).round() != (x * (1 / step)).round()]


def test_what_only_division_explains_is_told_from_what_sums_explain(tmp_path: Path) -> None:
    x = ties_of_division(0.01)
    assert len(x) > 100
    exported = export(OneQuantizer(quantizer(0.01, qint16)), x, path=tmp_path / "m.onnx")
    agreement = exported.verify(per_layer=True)
    (layer,) = agreement.layers
    assert (layer.name, layer.unequal, layer.reasons.divided) == ("quant", len(x), len(x))
    assert layer.steps == pytest.approx(1.0, abs=1e-2)
    assert layer.reasons.from_tie <= 32768 * 2**-23  # what two roundings of f32 can do to a quotient
    assert f"{len(x):,} divided, not multiplied" in str(agreement)
    (output,) = agreement.outputs
    assert (output.unequal, output.reasons.rounded, output.reasons.carried) == (len(x), len(x), 0)
    (row,) = agreement.to_dict()["layers"]
    assert row["reasons"]["divided"] == row["unequal"] == len(x)


class Chain(nn.Module):
    """A tie in front of a gain of 100 steps: what the first layer gets wrong, the second carries on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = quantizer(0.01, qint16), quantizer(0.0001, qint16)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def test_a_layer_is_not_blamed_for_what_the_one_before_it_does(tmp_path: Path) -> None:
    x = ties_of_division(0.01)
    x = x[x.abs() < 2.5]  # 3.27 is where the second one ends
    exported = export(Chain().eval(), x, path=tmp_path / "m.onnx")
    agreement = exported.verify(per_layer=True)
    first, second = agreement.layers
    assert first.unequal == len(x) > 0
    assert second.unequal == 0
    assert agreement.outputs[0].steps == pytest.approx(100, abs=1)
    assert agreement.outputs[0].reasons.carried == agreement.outputs[0].unequal == len(x)
    assert f"{len(x):,} carried on" in str(agreement)
    assert agreement.unexplained == 0
    assert exported.verify().layers == ()


@pytest.mark.parametrize("moved", [False, True])
def test_sums_that_are_an_output_are_a_layer_in_their_own_steps(moved: bool, tmp_path: Path) -> None:
    steps = [0.01, 0.03]
    linear = QuantizedLinear(torch.randn(2, 8).clamp(-1, 1), quantizer(steps, ch_axis=0))
    model = nn.Sequential(OneQuantizer(quantizer(0.5)), linear, nn.Flatten(0) if moved else nn.Identity()).eval()
    exported = export(model, torch.randn(4, 8) * 20, path=tmp_path / "m.onnx")
    first, sums = exported.verify(per_layer=True).layers
    assert (first.name, sums.name, sums.dtype, sums.elements, sums.unequal) == ("0.quant", "1", "accumulator", 8, 0)
    with torch.no_grad():
        linear.bias.add_(3 * 0.5 * torch.tensor(steps))
    agreement = exported.verify(per_layer=True)
    assert agreement.layers[1].unequal == 8
    assert agreement.layers[1].steps == pytest.approx(9 if moved else 3, abs=0.01)  # moved: of the finest channel
    assert agreement.beyond[0] == "1"
    # The model is no longer what was exported: that is no matter of floats.
    assert "8 unexplained" in str(agreement)
    assert agreement.unexplained == 8


def test_sums_that_leave_the_bits_of_an_f32_are_measured_in_what_it_can_tell() -> None:
    y = torch.tensor([2.0**24, 1.0])
    place = Point("a", y, torch.tensor(1.0, dtype=torch.float64)).compare(y + torch.tensor([8.0, 4.0]))
    assert (place.dtype, place.steps, place.unequal) == ("accumulator", 0.5, 0)
    assert Point("a", y, torch.tensor(16.0, dtype=torch.float64)).compare(y + 8).steps == 0.5


class Token(nn.Module):
    """A constant in front of each sample, as in a ViT."""

    def __init__(self, token: Tensor) -> None:
        super().__init__()
        self.token, self.first, self.second = nn.Parameter(token), quantizer(0.01, qint16), quantizer(0.01, qint16)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.first(self.token.expand(x.shape[0], -1)), self.second(x)))


def test_a_constant_that_grows_with_the_batch_is_stored_on_its_grid(tmp_path: Path) -> None:
    token = ties_of_division(0.01)[None]
    model, x = Token(token).eval(), torch.zeros(2, token.shape[1])
    exported = export(model, x, path=tmp_path / "m.onnx", dynamic_batch=True)
    agreement = exported.verify(torch.zeros(3, token.shape[1]), per_layer=True)
    assert agreement.steps["first"] == 0.0
    assert agreement.outputs[0].unequal == 0
    assert torch.equal(model.token, token)


def test_dividing_and_multiplying_by_the_inverse_seldom_differ(tmp_path: Path) -> None:
    model, x = OneQuantizer(quantizer(0.01, qint16)), torch.linspace(-330, 330, 200_001)
    exported = export(model, x, path=tmp_path / "m.onnx")
    steps = ((run(exported, x)[0] - model(x)) / 0.01).abs()
    assert exported.agreement is not None
    assert exported.agreement.steps["quant"] == pytest.approx(float(steps.max()), abs=1e-2)
    assert float(steps.max()) <= 1.01
    assert exported.agreement.layers[0].equal > 0.995
    assert exported.agreement.layers[0].unequal == exported.agreement.layers[0].reasons.divided


class Different(OneQuantizer):
    """Computes something else while it is exported."""

    def forward(self, x: Tensor) -> Tensor:
        return self.quant(x + (1.0 if torch.compiler.is_exporting() else 0.0))


def test_a_file_that_computes_something_else_is_told(tmp_path: Path) -> None:
    model = Different(quantizer(2**-6, qint8))
    message = r"ONNX Runtime and the prepared model part at 'output', by 64\.0 steps, on the example inputs"
    with pytest.warns(UserWarning, match=message) as said:
        exported = export(model, torch.tensor([0.5]), path=tmp_path / "m.onnx")
    assert said[0].filename == __file__
    assert exported.agreement is not None
    assert exported.agreement.worst == ("output", 64.0)
    assert exported.agreement.beyond == ("output",)


def test_optimizations_that_change_the_result_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_if_optimized(*arguments: object, optimized: bool = False, **more: object) -> dict[str, Tensor]:
        return {name: y + 9.0 * optimized for name, y in real(*arguments, optimized=optimized, **more).items()}

    real = _verify.run
    monkeypatch.setattr(_verify, "run", wrong_if_optimized)
    message = "ONNX Runtime, with its optimizations on, and the prepared model part at 'output', by 18.0 steps"
    with pytest.warns(UserWarning, match=re.escape(message)):
        exported = export(OneQuantizer(quantizer(0.5)), torch.ones(1), path=tmp_path / "m.onnx")
    assert exported.agreement is not None
    assert exported.agreement.worst[1] == 0.0


def test_not_compared_where_it_is_not_wanted(tmp_path: Path) -> None:
    exported = export(OneQuantizer(quantizer(0.5)), torch.ones(1), path=tmp_path / "m.onnx", verify=False)
    assert exported.agreement is None
    assert "not compared with ONNX Runtime" in repr(exported)


def test_where_onnx_runtime_cannot_run_the_file_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for Conv")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    path = tmp_path / "m.onnx"
    with pytest.raises(RuntimeError, match="ONNX Runtime does not run the exported model: no kernel for Conv"):
        export(ResidualBlock().eval(), torch.ones(1, 4, 4, 4), path=path, verify=True)
    assert not path.exists()
    with pytest.warns(UserWarning, match="no kernel for Conv; it was not compared"):
        exported = export(ResidualBlock().eval(), torch.ones(1, 4, 4, 4), path=path)
    assert exported.agreement is None
    assert path.exists()


def test_weights_are_not_compared(tmp_path: Path) -> None:
    model = QuantizedLinear(torch.ones(1, 2), quantizer(0.25), quantizer(0.5))
    exported = export(model.eval(), torch.ones(1, 2), path=tmp_path / "m.onnx")
    assert exported.agreement is not None
    assert list(exported.agreement.steps) == ["activation_post_process", "output"]
    # What comes out is on the grid of its quantizer, and measured in its steps.
    assert [place.dtype for place in exported.agreement.places] == ["int8", "int8"]


@pytest.mark.parametrize("shape", [(5, 80), (2, 5, 80)])
def test_int8_linears_agree_with_onnx_runtime_optimized(shape: tuple[int, ...], tmp_path: Path) -> None:
    # With int8 zero points it fails to load the second; and where the CPU has no VNNI, the first is off by 5 %.
    weight = torch.randn(64, 80)
    linear = QuantizedLinear(weight, quantizer((weight.abs().amax(1) / 127.5).tolist(), ch_axis=0), quantizer(0.5))
    model = torch.nn.Sequential(OneQuantizer(quantizer(0.02)), linear).eval()
    x = torch.randn(shape) * 2
    exported = export(model, x, path=tmp_path / "m.onnx")
    with torch.no_grad():
        steps = (run(exported, x)[0] - model(x)).abs() / 0.5
    assert float(steps.max()) <= 1.01
    assert float((steps > 0.5).float().mean()) < 0.01

"""What is compared with ONNX Runtime, and in which unit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nashquant.dtype import qint8, qint16
from nashquant.quantization.hbdk4 import Agreement, _agree, _build, export
from nashquant.quantization.hbdk4._agree import Probe, probes
from nashquant.quantization.hbdk4._build import build
from nashquant.quantization.hbdk4._faces import Face
from nashquant.quantization.hbdk4._flat import Flat, FlatInputs

from .small_models import OneQuantizer, QuantizedLinear, ResidualBlock, quantizer, run


def test_differences_are_counted_in_steps() -> None:
    points = [
        Probe("a", "v0", torch.tensor([0.0, 1.0]), torch.tensor(0.5), 2.0),
        Probe("b", "v1", torch.tensor([[1.0], [1.0]]), torch.tensor([[0.1], [10.0]]), 2.0),
        Probe("a", "v2", torch.tensor([3.0]), torch.tensor(0.5), 2.0),
        Probe("empty", "v3", torch.empty(0), torch.tensor(1.0), 2.0),
    ]
    given = [torch.tensor([0.5, 1.0]), torch.tensor([[1.0], [6.0]]), torch.tensor([1.5]), torch.empty(0)]
    agreement = Agreement.of(points, given)
    assert agreement.steps == pytest.approx({"a": 3.0, "b": 0.5, "empty": 0.0})
    assert agreement.worst == ("a", 3.0)
    assert agreement.beyond == ("a",)


def test_a_nan_is_a_difference() -> None:
    point = Probe("a", "v", torch.tensor([1.0]), torch.tensor(1.0), 2.0)
    assert Agreement.of([point], [torch.tensor([torch.nan])]).beyond == ("a",)


def test_dividing_and_multiplying_by_the_inverse_differ_by_a_step_at_most(tmp_path: Path) -> None:
    model, x = OneQuantizer(quantizer(0.01, qint16)), torch.linspace(-330, 330, 200_001)
    exported = export(model, x, path=tmp_path / "m.onnx")
    steps = ((run(exported, x)[0] - model(x)) / 0.01).abs()
    assert exported.agreement is not None
    assert exported.agreement.steps["quant"] == pytest.approx(float(steps.max()), abs=1e-2)
    assert float(steps.max()) <= 1.01
    assert float((steps > 0.5).float().mean()) < 5e-3  # and seldom


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


def test_an_output_in_high_precision_is_measured_in_int8_steps_of_its_range(tmp_path: Path) -> None:
    model = QuantizedLinear(torch.ones(1, 2), quantizer(0.25))
    built = probes_of(model, torch.tensor([[1.0, 50.0]]))
    assert [(point.name, point.allowed) for point in built] == [("output", 2.0)]
    assert float(built[0].step) == pytest.approx(float(built[0].y.abs().max()) / 127.5)


def test_optimizations_that_change_the_result_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong_if_optimized(*arguments: Any, optimized: bool = False) -> list[Tensor]:
        return [y + 9.0 * optimized for y in _agree.run(*arguments, optimized=optimized)]

    monkeypatch.setattr(_build, "run", wrong_if_optimized)
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


def probes_of(model: torch.nn.Module, x: Tensor) -> list[Probe]:
    inputs = FlatInputs(model.eval(), (x,), {})
    faces = Face(("x",), ("",)), Face(("output",), ("",))
    with torch.no_grad():
        built = build(Flat(model, inputs), inputs.tensors, (None,), faces)
        return probes(built.model.graph, built.calls, [model(x)])


def test_weights_are_not_compared(tmp_path: Path) -> None:
    model = QuantizedLinear(torch.ones(1, 2), quantizer(0.25), quantizer(0.5))
    exported = export(model.eval(), torch.ones(1, 2), path=tmp_path / "m.onnx")
    assert exported.agreement is not None
    assert list(exported.agreement.steps) == ["activation_post_process", "output"]


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

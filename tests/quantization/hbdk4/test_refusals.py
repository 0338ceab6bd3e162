"""What can't be exported is refused in plain words, and neither the model nor the folder is changed."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import Tensor, nn

from nashquant import march
from nashquant.quantization.fake_quantize import CalibrationWarning, FakeQuantize, FakeQuantState, set_fake_quantize
from nashquant.quantization.hbdk4 import export

from .small_models import OneQuantizer, ResidualBlock, quantizer


def state_of(model: nn.Module) -> list[Any]:
    modes = [(name, module.training) for name, module in model.named_modules()]
    return [*modes, *((name, value.tolist()) for name, value in model.state_dict().items())]


def refused(model: nn.Module, inputs: Any, error: type[Exception], message: str, path: Path, **more: Any) -> None:
    """Checks the message, and that nothing was written and nothing changed."""
    before, files = state_of(model), list(path.parent.iterdir())
    with pytest.raises(error) as caught:
        export(model, inputs, path=path, **more)
    assert message in str(caught.value)
    assert state_of(model) == before
    assert list(path.parent.iterdir()) == files


def test_a_float_model(tmp_path: Path) -> None:
    message = "Linear holds no FakeQuantize, so nothing in it is quantized: call nashquant.quantization.prepare"
    refused(nn.Linear(2, 2).eval(), torch.ones(1, 2), ValueError, message, tmp_path / "m.onnx")


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"export takes a prepared model \(a torch.nn.Module\), not function"):
        export(test_a_float_model, torch.ones(1), path=tmp_path / "m.onnx")  # type: ignore[arg-type]


MODES: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "training": (lambda model: model.train(), "in training mode is 'the model itself', 'conv'"),
    "a part that trains": (
        lambda model: model.conv.train(),
        "in training mode is 'conv': call model.eval(), then set_",
    ),
    "calibration": (
        lambda model: set_fake_quantize(model, FakeQuantState.CALIBRATION),
        "observing is 'quant', 'weight_fake_quant', 'conv_out' and 1 more: "
        "call set_fake_quantize(model, FakeQuantState.VALIDATION)",
    ),
    "qat": (lambda model: set_fake_quantize(model, FakeQuantState.QAT), "observing is 'quant'"),
    "float": (lambda model: set_fake_quantize(model, "float"), "switched off is 'quant'"),
    "one off": (lambda model: model.sum_out.disable_fake_quant(), "switched off is 'sum_out'"),
}


@pytest.mark.parametrize("mode", MODES)
def test_another_mode_than_eval_and_validation(mode: str, tmp_path: Path) -> None:
    change, message = MODES[mode]
    model = ResidualBlock().eval()
    change(model)
    refused(model, torch.ones(1, 4, 4, 4), RuntimeError, message, tmp_path / "m.onnx")


def test_validation_after_calibration_is_ready(tmp_path: Path) -> None:
    model = ResidualBlock().eval()
    set_fake_quantize(model, FakeQuantState.CALIBRATION)
    set_fake_quantize(model, FakeQuantState.VALIDATION)  # its quantizers are still in training mode
    before = state_of(model)
    export(model, torch.ones(1, 4, 4, 4), path=tmp_path / "m.onnx")
    assert state_of(model) == before


def test_a_range_that_is_narrower_than_its_type(tmp_path: Path) -> None:
    made = quantizer(0.5)
    made.quant_min = -127
    message = "the range -127 to 127 of 'quant' cannot be exported: QuantizeLinear saturates at the ends of its"
    refused(OneQuantizer(made), torch.ones(1), ValueError, message, tmp_path / "m.onnx")


def test_a_scale_that_was_never_set_is_told(tmp_path: Path) -> None:
    made = FakeQuantize()
    made.disable_observer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        export(OneQuantizer(made), torch.ones(1), path=tmp_path / "m.onnx", verify=False)
    said = [str(each.message) for each in caught if each.category is CalibrationWarning]
    assert any("exporting 1 quantizers whose scale was never set, and is still 1: 'quant'" in text for text in said)
    assert caught[0].filename == __file__


def test_example_inputs_that_tell_nothing(tmp_path: Path) -> None:
    model = OneQuantizer(quantizer(0.5))
    refused(model, torch.ones(0, 3), ValueError, "example input 'x' is empty: its shape is [0, 3]", tmp_path / "m.onnx")
    x = torch.tensor([1.0, torch.nan, torch.nan])
    refused(model, x, ValueError, "example input 'x' holds 2 NaN", tmp_path / "m.onnx")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_parameters_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    model = ResidualBlock().eval()
    with torch.no_grad():
        model.conv.bias[1] = value
    with pytest.raises(ValueError, match=r"parameter 'conv\.bias' holds 1 NaN or infinity"):
        export(model, torch.ones(1, 4, 4, 4), path=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_or_input_in_bfloat16(tmp_path: Path) -> None:
    message = "bfloat16 cannot be exported, since ONNX Runtime's CPU does not compute in it, but so is "
    model, x = ResidualBlock().eval().to(torch.bfloat16), torch.ones(1, 3, 4, 4)
    refused(model, x, ValueError, f"{message}'conv.weight'", tmp_path / "m.onnx")
    refused(ResidualBlock().eval(), x.bfloat16(), ValueError, f"{message}'x'", tmp_path / "m.onnx")


def test_example_inputs_that_do_not_run(tmp_path: Path) -> None:
    message = "the model does not run on example_inputs (x: float32[1, 3, 4, 4]): "
    refused(ResidualBlock().eval(), torch.ones(1, 3, 4, 4), ValueError, message, tmp_path / "m.onnx")
    message = "the model does not run on example_inputs (x: float32[1], arg1: float32[1]): "
    refused(OneQuantizer(quantizer(0.5)), (torch.ones(1),) * 2, ValueError, message, tmp_path / "m.onnx")


class Branching(OneQuantizer):
    def forward(self, x: Tensor) -> Tensor:
        return self.quant(x) if x.sum() > 0 else x


class Decomposing(OneQuantizer):
    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.svdvals(self.quant(x))


class Silent(OneQuantizer):
    def forward(self, x: Tensor) -> None:  # type: ignore[override]
        self.quant(x)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (Branching, RuntimeError, "torch.export could not follow the model's forward: Could not guard on data-dep"),
        (Decomposing, RuntimeError, "the model has no ONNX form: No ONNX function found for <OpOverload(op='aten._lin"),
        (Silent, ValueError, "the model gives no tensor: forward returned NoneType"),
    ],
)
def test_a_forward_that_has_no_graph(
    kind: type[OneQuantizer], error: type[Exception], message: str, tmp_path: Path
) -> None:
    refused(kind(quantizer(0.5)), torch.ones(2, 2), error, message, tmp_path / "m.onnx")


def test_no_march(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(march, "_current", None)
    message = "export needs to know the chip: call nashquant.set_march"
    refused(OneQuantizer(quantizer(0.5)), torch.ones(1), RuntimeError, message, tmp_path / "m.onnx")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        export(OneQuantizer(quantizer(0.5)), torch.ones(1), path=tmp_path / "no" / "m.onnx")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        export(OneQuantizer(quantizer(0.5)), torch.ones(1), path=tmp_path)


@pytest.mark.parametrize(
    ("missing", "verify", "named"), [("onnx_ir", None, "onnx-ir"), ("onnxruntime", True, "onnxruntime")]
)
def test_a_package_that_is_not_installed(
    missing: str, verify: bool | None, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find_spec(name))
    message = f"export needs {named}: pip install nashquant[export]"
    model = OneQuantizer(quantizer(0.5))
    refused(model, torch.ones(1), ImportError, message, tmp_path / "m.onnx", verify=verify)


def test_where_the_checker_refuses_the_older_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise onnx.checker.ValidationError("no")

    path = tmp_path / "m.onnx"
    path.write_bytes(b"older")
    monkeypatch.setattr(onnx.checker, "check_model", refuse)
    refused(OneQuantizer(quantizer(0.5)), torch.ones(1), onnx.checker.ValidationError, "no", path)
    assert path.read_bytes() == b"older"
    monkeypatch.undo()
    march.set_march("nash-e")
    export(OneQuantizer(quantizer(0.5)), torch.ones(1), path=path)
    assert onnx.load(str(path)).producer_name == "nashquant"


def test_importing_export_needs_no_onnx() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from nashquant.quantization.hbdk4 import export; "
        "print([name for name in ('onnx', 'onnxscript', 'onnx_ir', 'onnxruntime') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

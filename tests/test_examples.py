"""Every example runs, in a folder of its own, and leaves what its text promises."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from nashquant.quantization import FakeQuantize

EXAMPLES = Path(__file__).parents[1] / "examples"
ARTICLE = ["article_linear_int16.py", "article_add_fixed_scale.py"]


def run(*arguments: str, cwd: Path) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs one script here, where every warning is an error; gives the names it leaves behind."""
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def out_dtypes(model: torch.nn.Module) -> dict[str, str]:
    quantizers = {name: getattr(op, "activation_post_process", None) for name, op in model.named_modules()}
    return {name: str(quantizer.dtype) for name, quantizer in quantizers.items() if isinstance(quantizer, FakeQuantize)}


def exported(folder: Path) -> onnx.ModelProto:
    (path,) = folder.rglob("*.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("name", ARTICLE)
def test_moving_a_script_over_takes_one_word(name: str) -> None:
    theirs = (EXAMPLES / "vendor" / name).read_text()
    assert "horizon_plugin_pytorch" in theirs
    assert (EXAMPLES / name).read_text() == theirs.replace("horizon_plugin_pytorch", "nashquant")


@pytest.mark.parametrize("name", ARTICLE)
def test_the_vendors_script_runs_unmodified(name: str, tmp_path: Path) -> None:
    out = run("-m", "nashquant.compat.horizon", str(EXAMPLES / "vendor" / name), cwd=tmp_path)
    assert "输出形状: torch.Size(" in out
    assert "QuantizeLinear" in {node.op_type for node in exported(tmp_path).graph.node}


def test_the_add_keeps_its_fixed_scales(example: Any) -> None:
    left = example("article_add_fixed_scale.py")
    model, output, calib_out = left["calib_model"], left["output"], left["calib_out"]
    scales = {name: model.get_submodule(name).activation_post_process.scale.tolist() for name in out_dtypes(model)}
    assert scales == {"quant_x": [0.03125], "quant_y": [0.03125], "_generated_add_0": [0.0625]}
    assert set(out_dtypes(model).values()) == {"qint16"}
    steps = calib_out / 0.0625
    assert torch.equal(steps, steps.round())
    assert len(steps.unique()) > 5
    # Half a step of each input, and half a step of the sum.
    assert 0 < (calib_out - output).abs().max() <= 0.03125 + 0.0625 / 2


def test_one_linear_layer_gets_int16_weights(example: Any, tmp_path: Path) -> None:
    left = example("article_linear_int16.py")
    model, output, calib_out = left["calib_model"], left["output"], left["calib_out"]
    # linear3 feeds only the DeQuantStub: its output stays in high precision, and has no quantizer.
    # Those inside the layernorm are its intermediates, which no qconfig touches.
    outputs = {name: dtype for name, dtype in out_dtypes(model).items() if not name.startswith("layernorm.")}
    assert outputs == {
        "quant": "qint16",
        "linear1": "qint16",
        "layernorm": "qint8",
        "relu": "qint16",
        "linear2": "qint16",
    }
    weights = {f"linear{i}": str(model.get_submodule(f"linear{i}").weight_fake_quant.dtype) for i in (1, 2, 3)}
    assert weights == {"linear1": "qint8", "linear2": "qint16", "linear3": "qint8"}
    assert 0 < (calib_out - output).abs().max() < 0.05 * output.abs().max()
    assert "qint16 weight!!!" in (tmp_path / "model_check_result.txt").read_text()
    assert {node.op_type for node in exported(tmp_path).graph.node} >= {"QuantizeLinear", "DequantizeLinear"}


def test_sensitivity_tables_choose_the_ops_that_get_int16(example: Any, tmp_path: Path) -> None:
    left = example("article_sensitivity.py")
    tables = [torch.load(tmp_path / f"output_0-{i}_L1_sensitive_ops.pt", weights_only=True) for i in (0, 1)]
    for table in tables:
        errors = [row[3] for row in table]
        assert errors == sorted(errors, reverse=True)
        assert errors[0] > 0
    assert set(out_dtypes(left["all_int8"]).values()) == {"qint8"}
    mixed = out_dtypes(left["calibration_model"])
    wide = {name for name, dtype in mixed.items() if dtype == "qint16"}
    fifth = {row[0] for table in tables for row in table[: max(1, len(table) // 5)]}
    assert fifth <= wide < set(mixed)
    trained = left["qat_model"]
    assert out_dtypes(trained)["_generated_add_0"] == "qint16"
    assert trained.get_submodule("_generated_add_0.activation_post_process").scale.tolist() == [0.0625]


def test_a_frozen_backbone_stays_as_it_was_while_the_head_trains(example: Any) -> None:
    left = example("article_frozen_backbone.py")
    changed, model = left["changed"], left["qat_model"]
    assert changed(model.backbone, left["backbone"]) == []
    trained = changed(model.head, left["head"])
    assert any(name.endswith("weight") for name in trained)
    assert any(name.endswith("activation_post_process.scale") for name in trained)
    assert left["losses"][-1] < left["losses"][0] / 2


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun meets by gloo")
def test_two_processes_find_the_scales_of_one(
    example: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(EXAMPLES / "calibrate_distributed.py")
    together = run("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, cwd=tmp_path)
    monkeypatch.setattr(sys, "argv", [script])
    example("calibrate_distributed.py")
    alone = capsys.readouterr().out
    calibrated = [next(line for line in out.splitlines() if line.startswith("calibrated")) for out in (alone, together)]
    (by_one, scales), (by_two, same) = (line.split(": scales ") for line in calibrated)
    assert (by_one, by_two) == ("calibrated by 1", "calibrated by 2")
    assert scales == same
    assert len(set(scales.split(", "))) == 4  # the images, two layers, their mean; the scores stay in high precision
    assert "trained quantized by 2: " in together


def test_the_digits_demo_compares_its_models(tmp_path: Path) -> None:
    out = run(str(EXAMPLES / "digits.py"), "--quick", "--out", str(tmp_path / "out"), cwd=tmp_path)
    for row in ("float", "calibrated int8", "QAT int8", "calibrated int16", "QAT int8 in ONNX Runtime"):
        assert f"│ {row} " in out
    assert "│ QAT int8, integer model " in out
    (same,) = re.findall(r"the same digit on ([\d.]+)% of the images, 100.0% integer", " ".join(out.split()))
    assert float(same) >= 99.5
    assert {opset.version for opset in exported(tmp_path).opset_import if opset.domain == ""} == {21}


def test_what_helps_with_few_bits_does() -> None:
    pytest.importorskip("sklearn")
    found = runpy.run_path(str(EXAMPLES / "few_bits.py"), run_name="few_bits")["main"](2)
    distance = {way: each for way, (_, each) in found.items()}
    assert distance["equalized, biases corrected"] < distance["equalized"] / 2
    assert distance["equalized, AdaRound"] < distance["rounded to the nearest"] / 5
    assert distance["and observers by trial"] < distance["rounded to the nearest"] / 5
    assert found["QAT with learned scales"][0] > 90

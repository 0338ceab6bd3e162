"""What the commands print and write, and how mistakes are told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner, Result

from nashquant.cli import app

SCRIPT = """
import torch
from torch import nn
from nashquant.quantization import DeQuantStub, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter


def net():
    x = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(QuantStub(), nn.Linear(3, 4), nn.ReLU(), DeQuantStub()).eval()
    model = prepare(model, x, default_calibration_qconfig_setter, save_dir=None)
    for state in ("calibration", "validation"):
        set_fake_quantize(model.eval(), state)
        model(x)
    return model, x


def number():
    return 3


def failing():
    raise KeyError("mine")
"""

FLOATS = '<ir_version: 10, opset_import: ["" : 21]> net (float[n, 2] x, int64[1] i) => (float[n, 2] y) { y = Relu(x) }'


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "nets.py"
    path.write_text(SCRIPT)
    return path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def done(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def mistake(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code != 0
    assert "Traceback" not in result.output
    return result.output


@pytest.mark.filterwarnings("ignore:.*high precision.*")
def test_export_then_inspect_then_run(script: Path, tmp_path: Path) -> None:
    files = {
        "--plain": "p.onnx",
        "--encodings": "e.json",
        "--quant-config": "q.json",
        "--integers": "i.pt",
        "--picture": "g.svg",
    }
    said = done(
        "export",
        f"{script}:net",
        "-o",
        "net.onnx",
        "--march",
        "nash-m",
        "--layers",
        *(w for pair in files.items() for w in pair),
    )
    assert "ExportedModel('net.onnx': forward(input: float[2, 3])" in said
    assert "0.activation_post_process" in said  # a row of --layers
    for name in files.values():
        assert f"wrote {name}" in said
        assert (tmp_path / name).stat().st_size > 0
    assert json.loads((tmp_path / "e.json").read_text())["version"] == "2.0.0"

    said = done("inspect", "net.onnx", "--scales")
    assert "opset 21, made by nashquant" in said
    assert "takes input: float[2, 3]" in said
    assert "Gemm" in said
    assert "int8 × int8 (1)" in said
    assert "1.weight_fake_quant" in said
    assert "100.0% of the operators" in said

    x = np.array([[0.1, 0.2, 0.3], [-1.0, 2.0, 0.5]], np.float32)
    np.save("x.npy", x)
    said = done("run", "net.onnx", "--input", "x.npy", "--out", "y.npz")
    assert "[2, 4]" in said
    import onnxruntime

    session = onnxruntime.InferenceSession("net.onnx", providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"input": x})
    with np.load("y.npz") as found:
        assert np.abs(found["output"] - wanted).max() < 0.05
    assert "random inputs (normal, seed 0): input" in done("run", "net.onnx")

    said = done("inspect", "net.onnx", "--integer")
    assert "the integer model: 100.0% integer, no float steps" in said
    assert "integer model for nash-m" in said  # the table of its steps
    said = done("run", "net.onnx", "--input", "x.npy", "--integer", "--march", "nash-e", "--out", "z.npz")
    assert "100.0% integer, no float steps for nash-e" in said
    with np.load("y.npz") as floats, np.load("z.npz") as integers:
        difference = np.abs(floats["output"] - integers["output"]).max()
        assert difference < 0.05
    assert f"{difference:.6g}" in said  # as its table says


def test_inspect_names_what_stays_in_floating_point(script: Path) -> None:
    onnx.save(onnx.parser.parse_model(FLOATS.replace("{ y", "{ [here] y")), "float.onnx")
    said = done("inspect", "float.onnx")
    assert "no quantizers: this is a model in floating point" in said
    assert "0.0% of the operators" in said
    assert "in floating point: here" in said
    assert "takes x: float[n, 2], i: int64[1]" in said
    assert "the integer model: 0.0% integer, 1 float step" in said
    assert "as float: here: " in done("run", "float.onnx", "--integer")


OLD = """<ir_version: 8, opset_import: ["" : 13]>
net (float[2] x, float s = {0.1}, int8 z = {0}) => (float[2] y) {
    q = QuantizeLinear(x, s, z)
    y = DequantizeLinear(q, s, z)
}
"""


def test_names_in_brackets_are_no_markup_and_initializers_no_inputs(script: Path) -> None:
    model = onnx.parser.parse_model(OLD)
    assert [value.name for value in model.graph.input] == ["x", "s", "z"]
    model.graph.input[0].name = model.graph.node[0].input[0] = "x[bold]"
    model.graph.output[0].name = model.graph.node[1].output[0] = "y[bold]"
    onnx.save(model, "old.onnx")
    said = done("inspect", "old.onnx", "--scales")
    assert "takes x[bold]: float[2]\n" in said
    assert "x[bold]" in said.partition("Scales")[2]
    said = done("run", "old.onnx", "--integer")
    assert said.count("y[bold]") == 3  # ONNX Runtime, the model, its table


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nets.py", "names no function: write module:function, or path/to/script.py:function"),
        ("nets.py:no", "nets.py has no function 'no'; it has "),
        ("nothere.py:net", "there is no script 'nothere.py'"),
        ("nothere:net", "there is no module 'nothere'"),
        ("nets.py:number", "nets.py:number must give (model, example_inputs)"),
    ],
)
def test_a_source_that_gives_no_model(script: Path, source: str, message: str) -> None:
    assert message in mistake("export", source)


def test_what_fails_in_the_function_shows_where(script: Path) -> None:
    result = call("export", "nets.py:failing")
    assert result.exit_code == 1
    assert 'raise KeyError("mine")' in result.output
    assert "error: nets.py:failing failed: KeyError: 'mine'" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.onnx"], "there is no file 'no.onnx'"),
        (["nets.py"], "'nets.py' is not an ONNX file"),
        (["."], "'.' is a folder, not an ONNX file"),
        (["float.onnx", "-i", "."], "'.' is a folder, not a .npy file"),
        (["float.onnx", "--out", "no/y.npz"], "cannot write 'no/y.npz': there is no folder 'no'"),
        (["float.onnx", "-i", "x.npy"], "--input is missing for i"),
        (["float.onnx", "-i", "z=x.npy"], "'z=x.npy' is for no input that is left; the model takes x, i"),
        (["float.onnx", "-i", "no.npy"], "there is no file 'no.npy'"),
        (["float.onnx", "-i", "nets.py"], "'nets.py' is not a .npy file"),
        (["float.onnx", "-i", "i=x.npy"], "input 'i' is float32[3, 2], but the model takes int64[1]"),
        (["float.onnx", "-i", "flat.npy"], "input 'x' is float32[2], but the model takes float32[n, 2]"),
        (["float.onnx", "-i", "two.npz"], "'two.npz' holds 2 arrays (a, b); give each as a .npy file"),
        (["float.onnx", "-i", "broken.npz"], "'broken.npz' is not a .npy file: File is not a zip file"),
        (["float.onnx", "-i", "empty.npy"], "'empty.npy' is not a .npy file: No data left in file"),
        (["float.onnx", "-i", "objects.npz"], "'objects.npz' is not a .npy file: Object arrays cannot be loaded"),
        (["float.onnx", "-i", "i=one.npz"], "input 'i' is float32[3, 2], but the model takes int64[1]"),
        (["float.onnx", "--out", "y.txt"], "--out is a .npz file, not 'y.txt'"),
    ],
)
def test_run_with_what_does_not_fit(script: Path, arguments: list[str], message: str) -> None:
    onnx.save(onnx.parser.parse_model(FLOATS), "float.onnx")
    np.save("x.npy", np.ones((3, 2), np.float32))
    np.save("flat.npy", np.ones(2, np.float32))
    np.savez("one.npz", a=np.ones((3, 2), np.float32))
    np.savez("two.npz", a=np.ones(2), b=np.ones(2))
    np.savez("objects.npz", a=np.array([{}], object))
    Path("broken.npz").write_bytes(b"PK\x03\x04")
    Path("empty.npy").touch()
    assert message in mistake("run", *arguments)


def test_nan_is_counted_and_an_archive_of_one_array_is_taken_for_it(script: Path) -> None:
    onnx.save(onnx.parser.parse_model(FLOATS), "float.onnx")
    np.savez("x.npz", a=np.array([[np.nan, 1], [np.nan, 2]], np.float32))
    np.save("i.npy", np.ones(1, np.int64))
    assert "NaN, for which there is no integer: x 2\n" in done("run", "float.onnx", "-i", "x.npz", "-i", "i.npy")


def test_what_is_wrong_is_told_before_anything_runs(script: Path) -> None:
    onnx.save(onnx.parser.parse_model(FLOATS), "float.onnx")
    assert mistake("run", "float.onnx", "--integer", "--march", "nash-z").startswith("error: march 'nash-z' is unknown")
    assert mistake("inspect", "float.onnx", "--picture", "no/p.svg").startswith("error: cannot write 'no/p.svg'")


def test_a_folder_that_is_not_there_is_told_before_anything_is_written(script: Path, tmp_path: Path) -> None:
    message = "cannot write 'no/e.json': there is no folder 'no'"
    assert message in mistake("export", "nets.py:net", "--march", "nash-m", "--encodings", "no/e.json")
    assert not list(tmp_path.glob("*.onnx"))


def test_a_picture_of_another_kind_is_told_before_anything_is_written(script: Path, tmp_path: Path) -> None:
    message = "a picture is .svg or .png, not 'p.xyz'"
    assert message in mistake("export", "nets.py:net", "--march", "nash-m", "--picture", "p.xyz")
    assert not list(tmp_path.glob("*.onnx"))
    onnx.save(onnx.parser.parse_model(FLOATS), "float.onnx")
    assert mistake("inspect", "float.onnx", "--picture", "p.xyz") == f"error: {message}\n"


def test_an_unknown_march_is_a_mistake(script: Path) -> None:
    assert "nash-z" in mistake("export", "nets.py:net", "--march", "nash-z")


def test_help_and_version_are_there() -> None:
    from nashquant import __version__

    assert done("--version").strip() == f"nashquant {__version__}"
    for command in ("export", "run", "inspect"):
        assert command in done("--help")
        assert "Usage" in done(command, "--help")


def test_without_typer_it_says_what_to_install() -> None:
    code = (
        "import importlib.util as u, runpy, sys; find = u.find_spec;"
        "u.find_spec = lambda name, *more: None if name == 'typer' else find(name, *more);"
        "sys.argv = ['nashquant']; runpy.run_module('nashquant', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == "the command line needs typer: pip install 'nashquant[cli]'"

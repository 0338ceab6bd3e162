"""The vendor's import name, resolved to nashquant. In processes of their own: it changes the process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)


def python(code: str, cwd: Path) -> str:
    done = run("-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def install_a_vendor_package(folder: Path) -> None:
    package = folder / "horizon_plugin_pytorch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")


def test_modules_are_the_same_objects_under_both_names(tmp_path: Path) -> None:
    code = """
import nashquant.compat.horizon
import horizon_plugin_pytorch, nashquant
import horizon_plugin_pytorch.quantization.qconfig as theirs
import nashquant.quantization.qconfig as ours
from horizon_plugin_pytorch.dtype import qint8
from nashquant import dtype
assert horizon_plugin_pytorch is nashquant
assert theirs is ours
assert qint8 is dtype.qint8
print(ours.__spec__.name, theirs.__name__)
"""
    assert python(code, tmp_path) == "nashquant.quantization.qconfig nashquant.quantization.qconfig"


def test_importing_a_module_leaves_the_function_of_its_name_alone(tmp_path: Path) -> None:
    code = """
import nashquant.compat.horizon
from horizon_plugin_pytorch.quantization.prepare import PrepareMethod
from horizon_plugin_pytorch.quantization import prepare
print(type(prepare).__name__)
"""
    assert python(code, tmp_path) == "function"


def test_dynamic_block_is_found_where_the_vendor_has_it(tmp_path: Path) -> None:
    code = """
import nashquant.compat.horizon
from horizon_plugin_pytorch.fx.jit_scheme import Tracer, dynamic_block
from nashquant.fx import jit_scheme
assert Tracer is jit_scheme.Tracer
with Tracer.dynamic_block(None, "Loop"), dynamic_block():
    print("in")
"""
    assert python(code, tmp_path) == "in"


def test_without_the_opt_in_the_name_means_nothing(tmp_path: Path) -> None:
    done = run("-c", "import nashquant.quantization, nashquant.compat, horizon_plugin_pytorch", cwd=tmp_path)
    assert "No module named 'horizon_plugin_pytorch'" in done.stderr


def test_a_module_we_do_not_have_is_named(tmp_path: Path) -> None:
    code = "import nashquant.compat.horizon\nimport horizon_plugin_pytorch.nowhere.deep"
    done = run("-c", code, cwd=tmp_path)
    assert (
        "ModuleNotFoundError: nashquant has no module 'nashquant.nowhere' yet "
        "(asked for as 'horizon_plugin_pytorch.nowhere')"
    ) in done.stderr


def test_a_script_runs_as_if_python_had_started_it(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "beside.py").write_text("HERE = 'beside'")
    (folder / "script.py").write_text(
        "import sys\nfrom horizon_plugin_pytorch.dtype import qint16\nfrom beside import HERE\n"
        "print(__name__, sys.argv, __file__, HERE, qint16)\n"
    )
    done = run("-m", "nashquant.compat.horizon", "scripts/script.py", "a", "-b", cwd=tmp_path)
    assert done.stdout.strip() == ("__main__ ['scripts/script.py', 'a', '-b'] scripts/script.py beside qint16"), (
        done.stderr
    )


def test_a_script_that_also_opts_in_runs_and_its_exit_code_is_the_exit_code(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import nashquant.compat.horizon\nimport horizon_plugin_pytorch\nprint('ran')\nraise SystemExit(7)"
    )
    done = run("-m", "nashquant.compat.horizon", "script.py", cwd=tmp_path)
    assert (done.stdout.strip(), done.returncode) == ("ran", 7), done.stderr


@pytest.mark.parametrize("arguments", [["missing.py"], []])
def test_without_a_script_the_usage_is_shown(tmp_path: Path, arguments: list[str]) -> None:
    done = run("-m", "nashquant.compat.horizon", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "usage: python -m nashquant.compat.horizon script.py" in done.stderr


def test_it_refuses_where_the_vendors_package_is_installed(tmp_path: Path) -> None:
    install_a_vendor_package(tmp_path)
    (tmp_path / "script.py").write_text("print('ran')")
    done = run("-m", "nashquant.compat.horizon", "script.py", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    place = tmp_path / "horizon_plugin_pytorch" / "__init__.py"
    assert done.stderr.startswith(f"horizon_plugin_pytorch is installed here ({place})")
    assert "Traceback" not in done.stderr


def test_the_import_refuses_too(tmp_path: Path) -> None:
    install_a_vendor_package(tmp_path)
    done = run("-c", "import nashquant.compat.horizon", cwd=tmp_path)
    assert "ImportError: horizon_plugin_pytorch is installed here" in done.stderr


def test_a_script_of_the_newer_api_runs_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("""
import torch
from horizon_plugin_pytorch import set_march
from horizon_plugin_pytorch.dtype import qint8, qint16
from horizon_plugin_pytorch.qat_mode import QATMode, set_qat_mode
from horizon_plugin_pytorch.quantization import (
    DeQuantStub, FakeQuantState, QconfigSetter, QuantStub, get_qconfig, prepare, set_fake_quantize
)
from horizon_plugin_pytorch.quantization.prepare import PrepareMethod
from horizon_plugin_pytorch.quantization.qconfig_setter import (
    ConvDtypeTemplate, MatmulDtypeTemplate, ModuleNameTemplate, SensitivityTemplate
)
from horizon_plugin_pytorch.quantization import observer_v2

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)

    def forward(self, x):
        return self.dequant(torch.sigmoid(self.bn(self.conv(self.quant(x)))))

set_march("nash-e")
set_qat_mode(QATMode.WithBN)
setter = QconfigSetter(
    reference_qconfig=get_qconfig(observer=observer_v2.MSEObserver),
    templates=[
        ModuleNameTemplate({"": qint8}),
        ModuleNameTemplate({"quant": {"dtype": qint8, "threshold": 1.0}}),
        MatmulDtypeTemplate(input_dtypes=[qint8, qint8], prefix=None),
        ConvDtypeTemplate(input_dtype=qint8, weight_dtype=qint16, prefix=None),
        SensitivityTemplate([["conv", "activation", "Conv2d", 0.5]], topk_or_ratio=0.2),
    ],
    enable_optimize=True,
    save_dir="./qconfig_setting",
    custom_qconfig_mapping=None,
)
x = torch.rand(1, 3, 4, 4)
model = prepare(Net().eval(), example_inputs=x, qconfig_setter=setter, method=PrepareMethod.JIT_STRIP)
model.eval()
set_fake_quantize(model, FakeQuantState.CALIBRATION)
model(x)
model.eval()
set_fake_quantize(model, FakeQuantState.VALIDATION)
model(x)
print(model.quant.activation_post_process.scale.item() * 128, model.bn.activation_post_process.dtype)
""")
    done = run("-m", "nashquant.compat.horizon", "script.py", cwd=tmp_path)
    assert done.stdout.strip() == "1.0 qint16", done.stderr
    written = {path.name for path in (tmp_path / "qconfig_setting").iterdir()}
    assert written == {"qconfig_changelogs.txt", "qconfig_dtypes.pt", "qconfig_dtypes.pt.py"}

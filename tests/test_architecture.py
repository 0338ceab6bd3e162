"""The rules of docs/architecture.md that a machine can see."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import nashquant

PACKAGE = Path(nashquant.__file__).parent


def imports() -> list[tuple[Path, str]]:
    """Each file of the package, with the full name of each thing it imports, at any depth of its code."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        folder = ["nashquant", *file.parent.relative_to(PACKAGE).parts]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found += [(file, alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                origin = folder[: len(folder) - node.level + 1] if node.level else []
                origin += [node.module] if node.module else []
                found += [(file, ".".join([*origin, alias.name])) for alias in node.names]
    return found


def test_two_files_import_the_extension() -> None:
    assert {file.relative_to(PACKAGE).as_posix() for file, name in imports() if name.startswith("nashquant._core")} == {
        "ops/_rust.py",
        "ops/_rust_integer.py",
    }


def test_nobody_imports_a_private_module_of_another_folder() -> None:
    for file, name in imports():
        *parents, _ = name.split(".")
        private = [i for i, part in enumerate(parents) if part.startswith("_") and part != "__future__"]
        if parents[:1] == ["nashquant"] and private:
            home = PACKAGE.joinpath(*parents[1 : private[0]])
            assert file.parent == home, f"{file.relative_to(PACKAGE)} imports {name}"


def test_nothing_leans_on_torch_ao() -> None:
    assert not [
        (file, name) for file, name in imports() if name.startswith(("torch.ao", "torch.quantization", "torch.nn.qat"))
    ]


def test_importing_the_package_needs_no_extras() -> None:
    code = "import sys, nashquant.quantization.hbdk4, nashquant.qdq; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nashquant.quantization.prepare" in loaded
    extras = {"onnx", "onnxscript", "onnx_ir", "onnxruntime", "safetensors", "matplotlib", "rich", "typer", "sklearn"}
    assert not extras & set(loaded)

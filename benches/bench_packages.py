"""Beside other packages for quantization-aware training, each in a process and perhaps an environment of its own.

`RIVALS` names the Python that has them; without it, `.rivals/bin/python` if that is there (docs/benchmarks.md says how
to make it), else the Python that runs this.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benches.harness import elsewhere
from benches.packages import PACKAGES

ROOT = Path(__file__).parents[1]


def python() -> Path:
    """The interpreter that has the other packages, or ours."""
    if wanted := os.environ.get("RIVALS"):
        return Path(wanted)
    rivals = ROOT / ".rivals/bin/python"
    return rivals if rivals.exists() else Path(sys.executable)


@pytest.mark.parametrize("package", PACKAGES)
def test_forward_and_backward(
    package: str, take: Callable[[elsewhere.Found], None], pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    threads = pytestconfig.getoption("threads")  # all in one process: to import some takes longer than to measure them
    if pytestconfig.getoption("benchmark_disable"):
        threads = threads.split(",")[0]
    rows = [f"package_rows.py::test_forward_and_backward[{n}-thread-{package}]" for n in threads.split(",")]
    found = elsewhere.rows(pytestconfig, rows, threads, tmp_path / "found.json", python=python())
    take(found)
    if package in found.absent:
        pytest.skip(f"{package}: {found.absent[package]}")

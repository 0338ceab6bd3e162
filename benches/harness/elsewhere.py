"""Rows that are measured in another process: with another instruction set, or another environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]


class Found(NamedTuple):
    """What another process measured, and whom it did not find."""

    rows: list[dict[str, Any]]
    absent: dict[str, str]


def rows(
    config: pytest.Config,
    names: Sequence[str],
    threads: str,
    file: Path,
    *,
    python: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Found:
    """Runs the benches `names` in a process of their own, as long as here; `file` is where they leave their rows.

    Raises:
        AssertionError: one of them failed; with all it printed.
    """
    options = [f"--seconds={config.getoption('seconds')}", f"--rows={file}"]
    if config.getoption("benchmark_disable"):
        options.append("--benchmark-disable")
    program = python or Path(sys.executable)
    path = os.pathsep.join([str(program.parent), os.environ.get("PATH", "")])  # compilers of extensions look for ninja
    command = [program, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--threads={threads}", *options]
    done = subprocess.run(
        [*command, *(f"benches/{name}" for name in names)],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT / "python"), **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return Found(**json.loads(file.read_text()))

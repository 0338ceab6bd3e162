"""The straight-through estimator as one writes it in Python, compiled by Inductor: the best other way on CPU."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from benches.harness.environment import compiler
from torch import Tensor

NAME = "Inductor STE"
NOTE = "no clip mask: gradients pass where values were clipped, too"


def _straight_through(x: Tensor, scale: float, inv_scale: float, qmin: int, qmax: int) -> Tensor:
    y = torch.clamp(torch.round(x * inv_scale), qmin, qmax) * scale
    return x + (y - x).detach()


@functools.cache
def why_not() -> str:
    """Why Inductor can't compile here; empty if it can."""
    cxx = compiler()
    if cxx is None or shutil.which(cxx) is None:
        return "no C++ compiler for Inductor"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("#include <Python.h>\nint main() { return 0; }\n")
        include = f"-I{__import__('sysconfig').get_paths()['include']}"
        probe = subprocess.run([cxx, include, "-fopenmp", "-fsyntax-only", str(source)], capture_output=True, text=True)
    if probe.returncode:
        return f"{cxx} can't compile against Python {sys.version_info.major}.{sys.version_info.minor}'s headers"
    return ""


def compiled(scale: float, qmin: int, qmax: int) -> Callable[[Tensor], Tensor]:
    """Compiled on its first call, for one shape."""
    run = torch.compile(_straight_through, dynamic=False)
    inv_scale = 1 / scale
    return lambda x: run(x, scale, inv_scale, qmin, qmax)


def close(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> None:
    """`x + (y - x)` is `y` up to its rounding; the gradients differ where values were clipped."""
    torch.testing.assert_close(theirs[0], ours[0], rtol=1e-5, atol=1e-5)

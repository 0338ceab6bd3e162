"""The same functions with every instruction set of this CPU, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LEVELS = ("baseline", "sse42", "avx2", "avx512", "avx512_vnni", "amx", "neon", "neon_dotprod")
PROGRAM = """
import hashlib, torch
from nashquant import ops
digest = hashlib.sha256()
def add(*tensors):
    for tensor in tensors:
        digest.update(tensor.detach().reshape(-1).view(torch.uint8).numpy().tobytes())
def ends(dtype, *shape):
    return torch.randint(torch.iinfo(dtype).min, torch.iinfo(dtype).max + 1, shape, dtype=dtype)
torch.manual_seed(0)
for n in (1, 63, 4099, 200_001):
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        x = torch.randn(n).to(dtype).requires_grad_()
        y = ops.fake_quantize_per_tensor(x, 0.02, 3, -128, 127)
        add(y, torch.autograd.grad(y, x, torch.ones_like(y))[0], *ops.min_max_per_tensor(x))
        add(ops.histogram_per_tensor(x, 2.5, 129), ops.percentile_per_tensor(x, 99.9))
        rows = x.detach().view(1, -1)
        one, zero = torch.full((1,), 0.03), torch.zeros(1, dtype=torch.int32)
        add(ops.fake_quantize_per_channel(rows, one, zero, 0, -8, 7), ops.mse_search_per_tensor(x, -128, 127, 9))
        state = torch.tensor(torch.inf), torch.tensor(-torch.inf), torch.ones(1)
        add(ops.fake_quantize_observed_per_tensor(x, *state, 0.01, -128, 127), *state)
    acc = torch.randint(-2**31, 2**31, (n,), dtype=torch.int32)
    for dtype in (torch.int8, torch.int16):
        add(ops.requantize(acc, 3e-8, dtype), ops.add_saturating(acc.to(dtype), (acc >> 8).to(dtype), 0.7, 0.6))
for of_x in (torch.int8, torch.int16):
    for of_weight in (torch.int8, torch.int16):
        x, weight = ends(of_x, 3, 20, 9, 11), ends(of_weight, 33, 20, 3, 3)
        for bias in (torch.arange(33), torch.arange(33) << 40):
            add(ops.conv_requantize(x, weight, bias, torch.rand(33).double() / 2**20, of_x, 1, 1))
        add(ops.conv(x, weight[:20, :1], groups=20), ops.matmul(ends(of_x, 2, 7, 70), ends(of_weight, 70, 5)))
print(ops.cpu_capability(), digest.hexdigest())
"""


def run(level: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NASHQUANT_CPU_CAPABILITY": level}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def results() -> dict[str, str]:
    """Of each level that this CPU has: its bits."""
    done = {level: run(level) for level in LEVELS}
    for level, process in done.items():
        assert process.returncode == 0 or f'is "{level}", but this CPU has' in process.stderr, process.stderr
    found = {level: process.stdout.split() for level, process in done.items() if process.returncode == 0}
    assert [level for level, _ in found.values()] == list(found)
    return dict(found.values())


def test_every_level_gives_the_same_bits(results):
    print("levels that ran:", *results)
    assert "baseline" in results
    assert len(results) > 1 or not sys.platform.startswith("linux")
    assert len(set(results.values())) == 1


def test_without_a_wish_it_is_the_widest(results):
    process = run("")
    assert process.stdout.split()[0] == list(results)[-1]


def test_a_level_that_is_not_there_is_said(results):
    process = run("avx3")
    assert process.returncode != 0
    expected = f'ImportError: NASHQUANT_CPU_CAPABILITY is "avx3", but this CPU has: {", ".join(results)}'
    assert process.stderr.strip().splitlines()[-1] == expected

"""The kernels as narrower instruction sets run them: rows of the other files again, in a process of their own.

NASHQUANT_CPU_CAPABILITY is read once, so that one process cannot compare two. Ratios are still taken inside of one: to
rivals that run there in turns with ours, and that keep the CPU's own instruction set.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benches.harness import elsewhere
from benches.reporting import AVX2_SHARE

from nashquant import ops

ROWS = (
    "bench_fake_quantize_per_tensor.py::test_forward[1-thread-64K-f32]",
    "bench_fake_quantize_per_tensor.py::test_forward[1-thread-1M-f32]",
    "bench_fake_quantize_per_tensor.py::test_forward[1-thread-1M-f32, int16 range]",
    "bench_fake_quantize_per_tensor.py::test_forward[1-thread-1M-bf16]",
    "bench_fake_quantize_per_tensor.py::test_forward[1-thread-1M-f16]",
    "bench_fake_quantize_per_channel.py::test_forward_and_backward[1-thread-weight [512,512,3,3]]",
    "bench_fake_quantize_per_channel.py::test_forward_and_backward[1-thread-NHWC [16,64,32,32] axis 1]",
    "bench_fake_quantize_learnable.py::test_forward_and_backward[1-thread-per_tensor]",
    "bench_fake_quantize_observed.py::test_per_tensor[1-thread-1M-forward]",
    "bench_min_max.py::test_per_tensor[1-thread-1M]",
    "bench_min_max.py::test_per_channel[1-thread-NCHW]",
    "bench_mse_search.py::test_per_tensor[1-thread]",
    "bench_histogram.py::test_histogram_per_tensor[1-thread]",
    "bench_histogram.py::test_percentile_per_tensor[1-thread]",
    "bench_integer.py::test_add_saturating[1-thread-int8]",
    "bench_integer.py::test_add_saturating[1-thread-int16]",
    "bench_integer.py::test_requantize[1-thread-int8]",
)
PRODUCTS = ("bench_integer_gemm.py::test_matmul_requantize", "bench_integer_gemm.py::test_conv_requantize")
ROWS_OF = {"baseline": ROWS, "avx2": ROWS, "avx512_vnni": PRODUCTS}
# What is asked of each, where this floor is asked of AVX-512.
FLOOR_OF: dict[str, Callable[[float], float]] = {
    "baseline": lambda floor: min(floor, 5.0),
    "avx2": lambda floor: floor if floor <= 1 else AVX2_SHARE * floor,
    "avx512_vnni": lambda floor: floor,
}
# Where AMX is left out of ours, torch's products are not to have it either.
LIMITS = {"avx512_vnni": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}}
WIDER = {
    "baseline": ("sse42", "avx2", "avx512", "avx512_vnni", "amx", "neon", "neon_dotprod"),
    "avx2": ("avx512", "avx512_vnni", "amx"),
    "avx512_vnni": ("amx",),
}


@pytest.mark.parametrize("level", FLOOR_OF)
def test_rows(
    level: str, threads: int, take: Callable[[elsewhere.Found], None], pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    if threads > 1:
        pytest.skip("instruction sets are compared at one thread")
    widest = ops.cpu_capability()
    if widest not in WIDER[level]:
        pytest.skip(f"{widest} is not wider")
    variables = {"NASHQUANT_CPU_CAPABILITY": level, **LIMITS.get(level, {})}
    found = elsewhere.rows(pytestconfig, ROWS_OF[level], "1", tmp_path / "found.json", variables=variables)
    take(found._replace(rows=[at_level(line, level) for line in found.rows]))


def at_level(line: dict[str, Any], level: str) -> dict[str, Any]:
    """The row, named and judged as one of that instruction set."""
    for rival in line.get("rivals", ()):
        asked = rival["floor"] and (
            level != "baseline" or "backward" not in line["what"]
        )  # baseline: of forwards alone
        rival["floor"] = FLOOR_OF[level](rival["floor"]) if asked else None
    if "pace" in line:
        line["pace"]["floor"] = None
    return {**line, "what": f"{line['what']}, {level}", "cpu_capability": level}

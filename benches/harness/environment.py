"""What the figures depend on, and can be read here."""

from __future__ import annotations

import ctypes
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from nashquant import ops

_LEVELS = {
    "baseline": "x86-64 (SSE2)",
    "sse42": "x86-64-v2 (SSE4.2)",
    "avx2": "x86-64-v3 (AVX2)",
    "avx512": "x86-64-v4 (AVX-512)",
    "avx512_vnni": "x86-64-v4 with VNNI (AVX-512)",
    "amx": "x86-64-v4 with VNNI and AMX (AVX-512)",
    "neon": "aarch64 (NEON)",
    "neon_dotprod": "aarch64 with the dot product of bytes (NEON)",
}
_PACKAGES = ("nashquant", "torch")


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return ""


def isa() -> str:
    """The instruction set that our kernels run with."""
    level = ops.cpu_capability()
    known = level != "baseline" or platform.machine() in ("x86_64", "AMD64")
    return _LEVELS[level] if known else f"{platform.machine()} ({level})"


def compiler() -> str | None:
    """The C++ compiler that Inductor would use."""
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        return str(get_cpp_compiler())
    except Exception:
        return None


def cache_bytes(level: int) -> int | None:
    """Size of the data cache of that level, as libc tells."""
    names = {1: 188, 2: 191, 3: 194}  # _SC_LEVEL1_DCACHE_SIZE, 2, 3 of glibc
    try:
        size = int(ctypes.CDLL(None).sysconf(names[level]))
    except (AttributeError, OSError):
        return None
    return size if size > 0 else None


def environment() -> dict[str, Any]:
    """One flat record, for the JSON and the head of the report."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpuinfo("model name") or platform.processor(),
        "cores": os.cpu_count(),
        "isa": isa(),
        "caches": {f"L{level}": cache_bytes(level) for level in (1, 2, 3)},
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "frequency_governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "virtual_machine": "hypervisor" in _cpuinfo("flags").split(),
        "transparent_hugepage": _read("/sys/kernel/mm/transparent_hugepage/enabled"),
        "load_at_end": (_read("/proc/loadavg") or "").split()[:3],
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "compiler": compiler(),
        "versions": {package: _version(package) for package in _PACKAGES},
    }

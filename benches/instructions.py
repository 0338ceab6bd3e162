"""Counts the instructions of each kernel under callgrind, and compares with the table kept beside this file.

Time is noisy; instructions are not. `python benches/instructions.py` checks, `--update` writes the table anew.
Valgrind knows no AVX-512, so what runs there is the AVX2 build of every kernel, on any x86-64 machine.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TABLE = Path(__file__).with_suffix(".json")
ELEMENTS = 1 << 16
TOLERANCE = 0.05  # another compiler version moves a loop by a few per cent


def build() -> Path:
    """The Rust program; its path from cargo's own messages."""
    command = ["cargo", "bench", "--locked", "-p", "nashquant-kernels", "--bench", "instructions", "--no-run"]
    done = subprocess.run([*command, "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "instructions":
            return Path(message["executable"])
    raise RuntimeError("cargo built no program called instructions")


def kernels() -> list[str]:
    source = (ROOT / "rust/kernels/benches/instructions.rs").read_text()
    return re.findall(r'^    "(\w+)",$', source, re.MULTILINE)


def collected(program: Path, kernel: str, calls: int) -> int:
    """Instructions of the whole run."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run([*valgrind, program, kernel, str(calls)], check=True, capture_output=True, text=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])  # type: ignore[index]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the table instead of comparing with it")
    update = parser.parse_args().update
    if shutil.which("valgrind") is None:
        print("instruction counts: not checked, valgrind is missing")
        return 0
    program = build()
    counts = {
        kernel: round((collected(program, kernel, 2) - collected(program, kernel, 1)) / ELEMENTS, 3)
        for kernel in kernels()
    }
    if update:
        TABLE.write_text(json.dumps(counts, indent=1) + "\n")
        print(f"written: {TABLE.relative_to(ROOT)}")
        return 0
    kept, worse = json.loads(TABLE.read_text()), 0
    for kernel, now in counts.items():
        before = kept.get(kernel)
        verdict = "new: run with --update" if before is None else "fine"
        if before is not None and now > before * (1 + TOLERANCE):
            verdict = f"MORE than {before} by {now / before - 1:.0%}"
        elif before is not None and now < before * (1 - TOLERANCE):
            verdict = f"less than {before}: run with --update to keep it"
        worse += verdict.startswith(("MORE", "new"))
        print(f"{kernel:40} {now:9.3f} instructions per element  {verdict}")
    return min(worse, 1)


if __name__ == "__main__":
    sys.exit(main())

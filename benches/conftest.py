"""Runs every row: checks that the results agree, measures, and writes the report."""

from __future__ import annotations

import json
import os

# Waiting OpenMP threads that spin take the core from whoever works; libgomp reads this when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from benches.harness import Row, elsewhere, environment, interleave
from benches.reporting import record, record_steps, table, write_report

STEPS_SECONDS = 8  # times --seconds, for the five contenders of a training step
CHECKED = 1 << 24  # elements of the largest rows that are also run where nothing is measured
_RECORDS = pytest.StashKey[list[dict[str, Any]]]()
_ABSENT = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("nashquant benches")
    group.addoption("--seconds", type=float, default=0.3, help="time for one row at one thread count (default 0.3)")
    group.addoption("--threads", default="1,2", help="thread counts (default 1,2)")
    group.addoption("--rows", type=Path, help="file to write the measured rows to, as JSON (default: none)")
    group.addoption("--report", type=Path, help="folder to write the report to (default: none is written)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RECORDS] = []
    config.stash[_ABSENT] = {}


def _checks_only(config: pytest.Config) -> bool:
    return bool(config.getoption("benchmark_disable", default=False))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per thread count; where nothing is timed, one."""
    if "threads" in metafunc.fixturenames:
        counts = [int(count) for count in metafunc.config.getoption("threads").split(",")]
        counts = counts[:1] if _checks_only(metafunc.config) else counts
        metafunc.parametrize("threads", counts, ids=[f"{count}-thread" for count in counts])


@pytest.fixture(autouse=True)
def _same_data_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture
def race(request: pytest.FixtureRequest, threads: int) -> Callable[[Row], None]:
    """`race(row)` asserts that everybody agrees, then measures everybody in turns."""
    config = request.config

    def run(row: Row) -> None:
        torch.set_num_threads(threads)
        if threads > 1 and not row.at_two_threads:
            pytest.skip("the sizes between are measured at one thread")
        if _checks_only(config) and row.elements > CHECKED:
            pytest.skip("as the smaller sizes: only measured")
        row.check()
        if _checks_only(config):
            return
        contenders = {"nashquant": row.ours, **{rival.name: rival.run for rival in row.rivals}}
        if row.pace is not None:
            contenders[row.pace_name] = row.pace
        measured = interleave(contenders, threads, config.getoption("seconds"))
        config.stash[_RECORDS].append(record(row, threads, measured))

    return run


@pytest.fixture
def race_steps(request: pytest.FixtureRequest, threads: int) -> Callable[..., None]:
    """As `race`, for training steps: `race_steps(net=, steps=, quantizers=, ceilings=)`."""
    config = request.config

    def run(
        net: str, steps: dict[str, Callable[[], Any]], quantizers: dict[str, int], ceilings: dict[str, float]
    ) -> None:
        torch.set_num_threads(threads)
        for step in steps.values():
            step()
        if _checks_only(config):
            return
        measured = interleave(steps, threads, STEPS_SECONDS * config.getoption("seconds"))
        config.stash[_RECORDS].append(record_steps(net, threads, measured, quantizers, ceilings))

    return run


@pytest.fixture
def absent(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`absent(rival, why)` says in the report that a rival could not run."""
    return lambda rival, why: request.config.stash[_ABSENT].__setitem__(rival, why)


@pytest.fixture
def take(request: pytest.FixtureRequest) -> Callable[[elsewhere.Found], None]:
    """`take(found)` takes into the report what another process measured, and whom it missed."""

    def add(found: elsewhere.Found) -> None:
        request.config.stash[_RECORDS].extend(found.rows)
        request.config.stash[_ABSENT].update(found.absent)

    return add


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table on the screen, and the files where asked for."""
    records, absences = config.stash[_RECORDS], config.stash[_ABSENT]
    for rival, why in absences.items():
        terminalreporter.write_line(f"not measured: {rival}: {why}")
    if rows := config.getoption("rows"):
        rows.write_text(json.dumps({"rows": records, "absent": absences}))
    if not records:
        return
    machine = environment()
    terminalreporter.section("nashquant beside its rivals")
    terminalreporter.write_line(table(records, machine["isa"]))
    folder = config.getoption("report")
    if folder is not None:
        for path in write_report(folder, machine, records, absences):
            terminalreporter.write_line(f"written: {path}")

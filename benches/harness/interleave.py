"""Times several functions in turns: a, b, c, a, b, c, ...

Ratios are taken within a round and then the median over rounds, so that whatever slows the machine for a while slows
everybody. pytest-benchmark times one function to its end before the next, and cannot do this.

One thread is measured by the thread's CPU time, which leaves out what neighbours took (not their use of shared caches
and memory). Two threads are measured by wall clock; a round in which one of our threads had to wait for a core is
dropped.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from .quiet import waited

SLICE = 0.003  # seconds of one contender's turn, so that clocks and switching turns don't matter
MIN_ROUNDS, MAX_ROUNDS = 5, 51
SLOW, SLOW_ROUNDS = 1.0, 3  # a round that takes longer than so many seconds is run no oftener than that
PATIENCE = 8  # times the budget, that we wait for quiet rounds
WAITED = 0.08  # of a turn; waking a sleeping worker alone costs up to 0.03


@dataclass(frozen=True)
class Measured:
    """Seconds per call, one number per round and contender; `dropped` rounds are not among them."""

    clock: str
    seconds: Mapping[str, list[float]]
    dropped: int

    @property
    def rounds(self) -> int:
        return min(map(len, self.seconds.values()))

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, rival: str, ours: str) -> tuple[float, float, float]:
        """Median, lower and upper quartile of rival / ours, within rounds."""
        ratios = [r / o for r, o in zip(self.seconds[rival], self.seconds[ours], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return middle, low, high


def interleave(contenders: Mapping[str, Callable[[], Any]], threads: int, budget: float) -> Measured | None:
    """Runs all in turns for about `budget` seconds. None if the machine was never quiet for long enough."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        return _rounds(contenders, threads, budget)
    finally:
        gc.enable()
        torch.set_num_threads(before)


def _rounds(contenders: Mapping[str, Callable[[], Any]], threads: int, budget: float) -> Measured | None:
    clock, clock_name = (time.thread_time, "CPU") if threads == 1 else (time.perf_counter, "wall")
    calls = {name: _calls(run, clock) for name, run in contenders.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    rounds, dropped, needed, start = 0, 0, MIN_ROUNDS, time.perf_counter()
    while rounds < needed or (time.perf_counter() - start < budget and rounds < MAX_ROUNDS):
        began = time.perf_counter()
        turn, quiet = {}, True
        for name, run in contenders.items():
            waited_before = waited()
            turn[name] = _time(run, calls[name], clock)
            waited_after = waited()
            if threads > 1 and waited_before is not None and waited_after is not None:
                quiet &= waited_after - waited_before <= WAITED * turn[name]
        if time.perf_counter() - began > SLOW:
            needed = SLOW_ROUNDS
        if quiet:
            rounds += 1
            for name in contenders:
                seconds[name].append(turn[name] / calls[name])
        else:
            dropped += 1
            if time.perf_counter() - start > PATIENCE * budget:
                break
    return Measured(clock_name, seconds, dropped) if rounds >= SLOW_ROUNDS else None


def _calls(run: Callable[[], Any], clock: Callable[[], float]) -> int:
    once = _time(run, 1, clock)
    if once > 20 * SLICE:
        return 1
    once = _time(run, 1, clock)
    if once * 20 < SLICE:
        once = _time(run, 20, clock) / 20
    return max(1, math.ceil(SLICE / max(once, 1e-7)))


def _time(run: Callable[[], Any], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return clock() - start

"""How far a loop is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["progress"]

_T = TypeVar("_T")


def progress(steps: Sequence[_T], what: str, shown: bool = True) -> Iterator[_T]:
    """The steps, one after another, and on stderr how many are done.

    A bar of rich on a terminal, where rich is installed (`pip install nashquant[report]`); else a line at each tenth.

    >>> list(progress([1, 2], "doubling", shown=False))
    [1, 2]
    """
    if not shown or not steps:
        yield from steps
    elif sys.stderr.isatty() and importlib.util.find_spec("rich") is not None:
        yield from _bar(steps, what)
    else:
        yield from _lines(steps, what)


def _bar(steps: Sequence[_T], what: str) -> Iterator[_T]:
    from rich.console import Console
    from rich.progress import track

    yield from track(steps, what, console=Console(stderr=True), transient=True)


def _lines(steps: Sequence[_T], what: str) -> Iterator[_T]:
    total = len(steps)
    for done, step in enumerate(steps, 1):
        yield step
        if done * 10 // total > (done - 1) * 10 // total:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

"""The cost of a call that no clock is needed for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def calls_in(run: Callable[[], Any]) -> int:
    """How many calls of functions, Python's and C's, `run()` takes."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count

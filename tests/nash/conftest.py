"""Every export needs a march."""

from __future__ import annotations

import pytest

from nashquant import March, set_march


@pytest.fixture(autouse=True)
def _a_march(_the_same_start: None) -> None:
    set_march(March.NASH_M)

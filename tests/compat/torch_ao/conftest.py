"""The same thing made by torch.ao and by us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.quantization.fake_quantize
import torch.ao.quantization.observer
from torch import nn

from nashquant.compat import torch_ao as ours

THEIRS = (torch.ao.quantization.observer, torch.ao.quantization.fake_quantize)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def pair() -> Callable[..., tuple[nn.Module, nn.Module]]:
    """`pair(name, observer=other_name, **arguments)`: torch.ao's and ours."""

    def make(name: str, **arguments: Any) -> tuple[nn.Module, nn.Module]:
        made = []
        for home in (THEIRS, (ours,)):
            find = next(getattr(module, name) for module in home if hasattr(module, name))
            chosen = dict(arguments)
            if "observer" in chosen:
                chosen["observer"] = next(
                    getattr(module, chosen["observer"]) for module in home if hasattr(module, chosen["observer"])
                )
            made.append(find(**chosen))
        return made[0], made[1]

    return make


@pytest.fixture
def assert_same_state() -> Callable[[nn.Module, nn.Module], None]:
    """The same keys, in the same order, and the same values bit for bit (a zero has no sign)."""

    def check(theirs: nn.Module, mine: nn.Module) -> None:
        expected, state = theirs.state_dict(), mine.state_dict()
        assert list(state) == list(expected)
        for key, value in expected.items():
            assert state[key].dtype == value.dtype, key
            torch.testing.assert_close(state[key], value, rtol=0, atol=0, equal_nan=True, msg=key)

    return check

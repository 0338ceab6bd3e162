"""docs/operators.md is what the registry says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.march import March
from nashquant.quantization import UnknownOpWarning
from nashquant.quantization.prepare.registry import ENTRIES, MISSING, function_entry, spellings
from nashquant.quantization.prepare.registry.page import page

FILE = Path(__file__).parents[4] / "docs" / "operators.md"
Around = Callable[..., tuple[nn.Module, Any]]


def test_the_file_is_the_page() -> None:
    again = "python -m nashquant.quantization.prepare.registry > docs/operators.md"
    assert FILE.read_text() == page(), f"the registry or a march has changed: {again}"


def test_every_op_and_march_has_a_line() -> None:
    lines = [line.split(" | ")[0].removeprefix("| ") for line in page().splitlines() if line.startswith("| ")]
    assert {entry.name for entry in ENTRIES} | {march.value for march in March} <= set(lines)


def test_what_the_page_calls_unknown_is_a_function_of_torch_without_an_entry() -> None:
    for name in MISSING:
        function = getattr(torch, name, None) or getattr(F, name)
        assert function_entry(function) is None, name


def test_the_page_quotes_the_warning_as_it_is(around: Around) -> None:
    quoted = "nashquant does not know 1 op(s) between QuantStub and DeQuantStub; they stay in floating point"
    assert quoted in page()
    with pytest.warns(UnknownOpWarning) as warned:
        around(lambda s, x: s.m(x)[0], torch.randn(2, 3, 4), m=nn.LSTM(4, 4))
    assert quoted in str(warned[0].message)
    assert str(warned[0].message).endswith(". lstm: nn.LSTM hides its steps: loop over nn.LSTMCell")


def test_functions_are_written_as_one_writes_them() -> None:
    add = next(line for line in page().splitlines() if line.startswith("| add |"))
    assert "`torch.add`, `.add`, `.add_`, `+`" in add
    assert "summed into the accumulator of a conv or linear" in add


def test_no_two_entries_claim_one_function() -> None:
    owner: dict[Any, str] = {}
    for entry in ENTRIES:
        for function in spellings(entry):
            assert owner.setdefault(function, entry.name) == entry.name
    assert owner[Tensor.__iadd__] == "add"

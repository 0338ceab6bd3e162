from __future__ import annotations

import pytest

from nashquant import March, get_march, set_march
from nashquant.dtype import qint8, qint16
from nashquant.march import require_march
from nashquant.op_kind import OpKind


def test_a_march_is_set_by_member_or_by_name() -> None:
    set_march(March.NASH_E)
    assert get_march() is March.NASH_E
    set_march("nash-p")
    assert get_march() is March.NASH_P
    set_march("NASH_M")
    assert get_march() is March.NASH_M


def test_all_nash_members_are_there() -> None:
    assert {march.value for march in March} == {
        *("nash-e", "nash-m", "nash-p", "nash-h", "nash-b", "nash-b-lite", "nash-b-plus")
    }


def test_an_unknown_march_lists_the_known_ones_and_changes_nothing() -> None:
    set_march("nash-e")
    with pytest.raises(ValueError, match=r"march 'nash-x' is unknown; nashquant knows 'nash-e', 'nash-m'"):
        set_march("nash-x")
    with pytest.raises(ValueError, match="'bayes' is older than NASH"):
        set_march("bayes")
    with pytest.raises(TypeError, match="not 7"):
        set_march(7)  # type: ignore[arg-type]
    assert get_march() is March.NASH_E


def test_needing_a_march_that_was_not_set_says_which_call_is_missing() -> None:
    assert get_march() is None
    with pytest.raises(RuntimeError, match=r"prepare needs to know the chip: call nashquant\.set_march"):
        require_march("prepare")


def test_what_a_march_allows_is_data() -> None:
    spec = March.NASH_M.spec
    assert spec.accumulator == "int32"
    assert spec.activations == (qint8, qint16)
    assert spec.rule(OpKind.LUT).outputs == {qint8: (qint8,), qint16: (qint8, qint16)}
    assert spec.rule(OpKind.GEMM).outputs[qint8] == (qint8, qint16)
    assert March.NASH_P.spec.accumulator == "float16 or float32"
    assert hash(March.NASH_E.spec.sum_in) == hash((qint8,))

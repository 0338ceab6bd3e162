from __future__ import annotations

import copy
import pickle

import pytest
import torch

from nashquant.dtype import QuantDType, qinfo, qint4, qint8, qint16


@pytest.mark.parametrize(("dtype", "low", "high"), [(qint4, -8, 7), (qint8, -128, 127), (qint16, -32768, 32767)])
def test_the_ranges_are_those_of_the_contract(dtype: QuantDType, low: int, high: int) -> None:
    assert qinfo(dtype) == (low, high)
    assert (qinfo(dtype).min, qinfo(dtype).max) == (low, high)
    assert (dtype.qmin, dtype.qmax) == (low, high)


def test_a_dtype_prints_as_its_name_and_copies_to_itself() -> None:
    assert repr(qint8) == str(qint8) == "qint8"
    assert copy.deepcopy(qint16) is qint16
    assert pickle.loads(pickle.dumps(qint4)) is qint4


def test_qinfo_refuses_what_is_no_quantized_dtype() -> None:
    with pytest.raises(TypeError, match=r"one of qint4, qint8, qint16, not torch\.int8"):
        qinfo(torch.int8)  # type: ignore[arg-type]

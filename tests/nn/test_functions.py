from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from nashquant.nn import Cos, Sin, functions, qat

X = torch.tensor([0.25, 0.5, 0.75])


@pytest.mark.parametrize("name", functions.__all__)
def test_each_is_the_torch_function_of_its_name(name: str) -> None:
    torch.testing.assert_close(getattr(functions, name)()(X), getattr(torch, name.lower())(X), equal_nan=True)


def test_a_single_period_changes_nothing() -> None:
    assert torch.equal(Sin(single_period=True)(X), X.sin())
    assert torch.equal(Cos(single_period=True)(X), X.cos())


@pytest.mark.parametrize("cls", [nn.Sigmoid, Sin])
def test_a_quantized_twin_is_found_by_its_name(cls: type[nn.Module]) -> None:
    twin = getattr(qat, cls.__name__)
    assert twin is qat.twin(cls)
    assert issubclass(twin, cls)
    assert pickle.loads(pickle.dumps(twin)) is twin
    assert copy.deepcopy(twin) is twin


def test_what_is_no_module_has_no_twin() -> None:
    with pytest.raises(AttributeError, match="has a module 'Sigmoind' to be quantized"):
        qat.Sigmoind  # noqa: B018

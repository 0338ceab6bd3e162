from __future__ import annotations

from typing import Any

import pytest
import torch

from nashquant.nn import DeQuantStub, FloatFunctional, QuantStub

X, Y = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 1.0])


@pytest.mark.parametrize(
    ("method", "args", "expected"),
    [
        ("add", (X, Y), [4.0, -1.0]),
        ("add_scalar", (X, 2.0), [3.0, 0.0]),
        ("add_relu", (X, Y), [4.0, 0.0]),
        ("sub", (X, Y), [-2.0, -3.0]),
        ("mul", (X, Y), [3.0, -2.0]),
        ("mul_scalar", (X, 2.0), [2.0, -4.0]),
        ("div", (X, Y), [1 / 3, -2.0]),
        ("matmul", (X, Y), 1.0),
        ("maximum", (X, Y), [3.0, 1.0]),
        ("minimum", (X, Y), [1.0, -2.0]),
        ("cat", ([X, Y],), [1.0, -2.0, 3.0, 1.0]),
        ("stack", ([X, Y],), [[1.0, -2.0], [3.0, 1.0]]),
        ("mean", (X,), -0.5),
        ("sum", (X,), -1.0),
    ],
)
def test_each_method_is_its_torch_function(method: str, args: tuple[Any, ...], expected: Any) -> None:
    torch.testing.assert_close(getattr(FloatFunctional(), method)(*args), torch.tensor(expected))


def test_it_has_the_methods_of_torch_s_class() -> None:
    theirs = pytest.importorskip("torch.ao.nn.quantized").FloatFunctional
    own = {name for name in vars(theirs) if not name.startswith("_") and callable(getattr(theirs, name))}
    assert own - {"forward"} <= set(dir(FloatFunctional)) | {"add_relu"}


def test_calling_it_says_what_to_do() -> None:
    with pytest.raises(TypeError, match=r"call one of its methods, e\.g\. \.add\(x, y\)"):
        FloatFunctional()(X, Y)


def test_stubs_of_a_float_model_do_nothing() -> None:
    assert QuantStub()(X) is X
    assert DeQuantStub()(X) is X
    assert repr(QuantStub(scale=0.5)) == "QuantStub(scale=0.5)"

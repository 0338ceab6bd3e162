"""The integer model is called as the prepared model is, and gives what that gives; what it can't take is told first."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from nashquant.nash import IntegerModel, compare, convert
from nashquant.quantization import DeQuantStub, QuantStub, get_qconfig, prepare, set_fake_quantize
from nashquant.quantization.hbdk4 import export
from nashquant.quantization.setter import TemplateQconfigSetter

from .exact import graph


@dataclass
class Found:
    scores: Tensor
    boxes: tuple[Tensor, ...]


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quant_x, self.quant_y, self.dequant, self.head = QuantStub(), QuantStub(), DeQuantStub(), nn.Linear(4, 3)

    def both(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.head(self.quant_x(x)), self.head(self.quant_y(y))
        return self.dequant(torch.relu(x)), self.dequant(y + x)


class Plain(Net):
    def forward(self, x: Tensor, y: Tensor, scale: int = 2) -> tuple[Tensor, Tensor]:
        return self.both(x, y * scale)


class OfDict(Net):
    def forward(self, sample: dict[str, Any]) -> dict[str, Any]:
        a, b = self.both(sample["x"], sample["rest"][0])
        return {"b": b, "more": [a, None, 3], "pair": Pair(b, a)}


class ByKeyword(Net):
    def forward(self, *xs: Tensor, mask: Tensor | None = None, **more: Tensor) -> Found:
        a, b = self.both(xs[0], more["y"])
        return Found(a, (b,))


class One(Net):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.dequant(self.head(self.quant_x(x))),)


Models = Callable[[str], tuple[nn.Module, IntegerModel]]


class OnlyByKeyword(Net):
    def forward(self, *, sample: dict[str, Tensor], fill: float, dtype: torch.dtype) -> dict[str, Any]:
        a, b = self.both(sample["x"], sample["y"])
        return {"kind": "found", "a": a.to(dtype), "b": b}


X, Y = torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.linspace(-2, 2, 24).reshape(6, 4)
CALLS: dict[str, tuple[type[Net], tuple[Any, ...], dict[str, Any]]] = {
    "by place": (Plain, (X, Y), {}),
    "by name": (Plain, (X,), {"y": Y}),
    "with a number": (Plain, (X, Y, 3), {}),
    "a dict": (OfDict, ({"x": X, "rest": (Y,)},), {}),
    "stars": (ByKeyword, (X,), {"y": Y}),
    "keywords alone": (
        OnlyByKeyword,
        (),
        {"sample": {"x": X, "y": Y}, "fill": float("nan"), "dtype": torch.float32},
    ),
    "a tuple of one": (One, (X,), {}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("calls")
    return cache(lambda case: made(case, folder / "m.onnx"))


def made(case: str, path: Path, **options: Any) -> tuple[nn.Module, IntegerModel]:
    kind, args, kwargs = CALLS[case]
    torch.manual_seed(0)
    model = prepare(
        kind().eval(), args, TemplateQconfigSetter(get_qconfig()), example_kw_inputs=kwargs or None, save_dir=None
    )
    for state in ("calibration", "validation"):
        set_fake_quantize(model.eval(), state)
        model(*args, **kwargs)
    export(model, args, path=path, example_kw_inputs=kwargs, verify=False, **options)
    return model, convert(path)  # the file alone


def leaves(tree: Any) -> list[Any]:
    return pytree.tree_leaves(vars(tree) if isinstance(tree, Found) else tree)


@pytest.mark.parametrize("case", CALLS)
def test_it_takes_and_gives_what_the_prepared_model_does(case: str, models: Models) -> None:
    _, args, kwargs = CALLS[case]
    prepared, integer = models(case)
    wanted, found = prepared(*args, **kwargs), integer(*args, **kwargs)
    assert type(found) is (dict if isinstance(wanted, Found) else type(wanted))
    assert [type(each) for each in leaves(found)] == [type(each) for each in leaves(wanted)]
    for ours, theirs in zip(leaves(found), leaves(wanted), strict=True):
        assert not isinstance(ours, Tensor) or (ours - theirs).abs().max() < 0.1
    assert not isinstance(found, dict) or list(found) == list(vars(wanted) if isinstance(wanted, Found) else wanted)
    again = pickle.loads(pickle.dumps(integer))(*args, **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(leaves(again), leaves(found), strict=True) if isinstance(a, Tensor))
    assert integer.integers(*args, **kwargs)
    assert integer.overflows(*args, **kwargs) == {}


@pytest.mark.parametrize("case", CALLS)
def test_compare_takes_it_too(case: str, models: Models) -> None:
    _, args, kwargs = CALLS[case]
    prepared, integer = models(case)
    batch: Any = {"x": args[0], **kwargs} if case == "by name" else args or kwargs
    if case == "stars":  # both ways at once are no batch
        with pytest.raises(ValueError, match=r"'more' is {}, expected {'y': tensor}"):
            compare(prepared, integer, [batch])
        return
    found = compare(prepared, integer, args[0] if case == "a dict" else [batch])
    assert found.unmatched == ()
    assert min(layer.equal for layer in found.layers) > 0.9
    assert found.nans == {}


def test_a_dict_is_the_first_argument_or_all_of_them_by_name(models: Models) -> None:
    prepared, integer = models("a dict")
    sample = CALLS["a dict"][1][0]
    assert compare(prepared, integer, {"sample": sample}) == compare(prepared, integer, sample)
    with pytest.raises(ValueError, match=r"^input 'sample' is {'x': tensor}, expected {'x': tensor, 'rest'"):
        compare(prepared, integer, {"x": X})


def test_places_and_names_are_those_of_forward(tmp_path: Path) -> None:
    _, integer = made("by place", tmp_path / "m.onnx", input_names=["first", "second"])
    expected = integer(X, Y)
    for given in (
        integer(y=Y, x=X),
        integer(X, Y, 2),
        integer(X, y=Y, scale=2),
        integer.by_name({"first": X, "second": Y}),
    ):
        values = given.values() if isinstance(given, dict) else given
        assert all(torch.equal(a, b) for a, b in zip(values, expected, strict=True))


WRONG: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("by place", (X,), {}, r"input 'y' is missing: the model takes \(x, y, scale: 2\)"),
    ("by place", (X, Y, 2, 3), {}, r"the model takes \(x, y, scale: 2\), but 4 arguments were given"),
    ("by place", (X, Y), {"x": X}, r"input 'x' is given twice: the model takes \(x, y, scale: 2\)"),
    ("by place", (X, Y), {"z": X}, r"input 'z' is not known: the model takes \(x, y, scale: 2\)"),
    ("by place", (X, Y, 3), {}, "input 'scale' is 3, but 2 is constant in the file"),
    ("by place", (X, Y, X), {}, "input 'scale' is tensor, but 2 is constant in the file"),
    ("by place", (X, [Y]), {}, "input 'y' is list, expected a torch.Tensor"),
    ("by place", (X, Y.numpy()), {}, "input 'y' is ndarray, expected a torch.Tensor"),
    ("a dict", (X, Y), {}, r"the model takes \(sample: {'x': tensor, 'rest': \(tensor,\)}\), but 2 arguments"),
    ("a dict", (X,), {}, r"input 'sample' is tensor, expected {'x': tensor, 'rest': \(tensor,\)}"),
    ("a dict", ({"x": X},), {}, r"input 'sample' is {'x': tensor}, expected {'x': tensor, 'rest': \(tensor,\)}"),
    ("a dict", ({"x": X, "rest": (Y, Y)},), {}, r"input 'sample.rest' is \(tensor, tensor\), expected \(tensor,\)"),
    ("keywords alone", (), {"fill": 0.0}, "input 'fill' is 0.0, but nan is constant in the file"),
    ("keywords alone", (), {"dtype": X}, "input 'dtype' is tensor, but dtype is constant in the file"),
    ("stars", (X, Y), {"y": Y}, r"input 'xs' is \(tensor, tensor\), expected \(tensor,\)"),
    ("stars", (X,), {"y": Y, "z": Y}, r"input 'more' is {'y': tensor, 'z': tensor}, expected {'y': tensor}"),
]


def test_another_layout_is_told_with_what_was_expected(models: Models) -> None:
    for case, args, kwargs, message in WRONG:
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            models(case)[1](*args, **{**(CALLS[case][2] if case == "keywords alone" else {}), **kwargs})


def test_a_fixed_size_is_checked_before_anything_runs(models: Models, tmp_path: Path) -> None:
    prepared, integer = models("by place")
    with pytest.raises(
        ValueError, match=r"^input 'y' has shape \[5, 4\], but the model takes \[6, 4\]: axis 0 is 5, exp"
    ):
        integer(X, Y[:5])
    with pytest.raises(ValueError, match="axis 0 is 5, expected 6; export with dynamic_batch=True"):
        compare(prepared, integer, [(X[:5], Y[:5])])
    with pytest.raises(ValueError, match=r"shape \[4\], but the model takes \[6, 4\]: it has 1 axes, expected 2$"):
        integer(X[0], Y)
    with pytest.raises(TypeError, match=r"input 'x' is torch.float64, but the model takes torch.float32"):
        integer(X.double(), Y)
    _, dynamic = made("by place", tmp_path / "dynamic.onnx", dynamic_batch=True)
    assert dynamic(X[:5], Y[:5])[0].shape == (5, 3)
    with pytest.raises(ValueError, match=r"the model takes \[batch, 4\]: axis 1 is 3, expected 4$"):
        dynamic(X[:, :3], Y)
    with pytest.raises(ValueError, match=r"^inputs 'x' and 'y' have sizes 1 and 6 on the axis 'batch', but the model"):
        dynamic(X[:1], Y)


FOREIGN = (
    "q = QuantizeLinear(x, s, z) o = DequantizeLinear(q, s, z)"
    " r = QuantizeLinear(v, s, z) p = DequantizeLinear(r, s, z)"
)


def foreign() -> onnx.ModelProto:
    return graph(FOREIGN, "float[n] x, float[n] v", "float o, float p", s=0.5, z=np.int8(0))


def test_names_of_the_file_are_neither_missing_nor_unknown() -> None:
    model, x = convert(foreign()), torch.ones(2)
    with pytest.raises(ValueError, match=r"^input 'v' is missing: the model takes x, v$"):
        model.by_name({"x": x})
    with pytest.raises(ValueError, match=r"^input 'w' is not known: the model takes x, v$"):
        model.by_name({"x": x, "v": x, "w": x})


def test_a_file_that_says_nothing_takes_a_row_or_names_and_gives_a_row() -> None:
    model, x = convert(foreign()), torch.tensor([1.0, 2.0])
    for found in (model(x, -x), model(x, v=-x), model(v=-x, x=x)):
        assert [y.tolist() for y in found] == [[1, 2], [-1, -2]]
    with pytest.raises(ValueError, match=r"^input 'v' is missing: the model takes \(x, v\)"):
        model(x)


@pytest.mark.parametrize("said", ["", "{", "[]", '{"takes": [["x", "", {"tensor": "x"}]], "gives": {"tensor": "o"}}'])
def test_what_no_longer_fits_the_file_is_not_believed(said: str) -> None:
    model = foreign()
    onnx.helper.set_model_props(model, {"nashquant.forward": said})
    assert str(convert(model).forward) == "(x, v)"


def test_nan_has_no_integer_and_is_told_with_its_layer_and_input(models: Models) -> None:
    bad = X.clone()
    bad[0, :2] = torch.nan
    bad[1, 0] = torch.inf
    prepared, integer = models("by place")
    with pytest.warns(
        UserWarning, match=r"NaN was quantized.* in 'quant_x' \(2\); inputs with NaN: 'x' \(2\)$"
    ) as told:
        integer(bad, Y)
    assert len(told) == 1
    assert told[0].filename == __file__
    found = compare(prepared, integer, [(bad, Y), (bad, Y)])
    assert found.nans == {"quant_x": 4}
    assert "NaN that was quantized, for which there is no integer: quant_x 4" in str(found)
    assert all(layer.equal > 0.9 for layer in found.layers)


def test_nan_that_is_seen_to_in_front_is_no_mistake() -> None:
    body = "w = IsNaN(x) c = Where(w, k, x) q = QuantizeLinear(c, s, z) o = DequantizeLinear(q, s, z)"
    model = convert(graph(body, "float[n] x", "float o", s=0.5, z=np.int8(0), k=np.float32(3)))
    assert model(torch.tensor([torch.nan, 1.0])).tolist() == [3, 1]

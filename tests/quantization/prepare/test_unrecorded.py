"""A call that prepare never saw is an error with file, line, owner and what to do, wherever it is made."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nashquant.quantization import UnrecordedCallError, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter

Prepared = Callable[..., tuple[nn.Module, Any]]


def new(x: Tensor) -> bool:
    """Whether `x` is a batch that prepare did not see."""
    return x.shape[0] > 2


def in_a_loop(self: nn.Module, x: Tensor) -> Tensor:
    for _ in range(2):
        x = F.relu(x)
        if new(x):
            x = torch.sigmoid(x)  # here
    return x


def in_a_while_loop(self: nn.Module, x: Tensor) -> Tensor:
    rounds = 0
    while rounds < x.shape[0]:
        x = torch.sigmoid(x)  # here
        rounds += 1
    return x


def in_a_list_comprehension(self: nn.Module, x: Tensor) -> Tensor:
    rows = [torch.sigmoid(row) for row in x.unbind(0)]  # here
    return torch.stack(rows[:2])


def in_a_generator_expression(self: nn.Module, x: Tensor) -> Tensor:
    rows = list(torch.sigmoid(row) for row in x.unbind(0))  # noqa: C400  # here
    return torch.stack(rows[:2])


def in_a_dict_comprehension(self: nn.Module, x: Tensor) -> Tensor:
    rows = {i: torch.sigmoid(row) for i, row in enumerate(x.unbind(0))}  # here
    return torch.stack([rows[0], rows[1]])


def in_a_nested_function(self: nn.Module, x: Tensor) -> Tensor:
    def inner(x: Tensor) -> Tensor:
        return torch.sigmoid(x) if new(x) else F.relu(x)  # here

    return inner(x)


def in_a_lambda(self: nn.Module, x: Tensor) -> Tensor:
    act = (lambda x: torch.sigmoid(x)) if new(x) else (lambda x: F.relu(x))  # here
    return act(x)


def in_a_function_given_to_map(self: nn.Module, x: Tensor) -> Tensor:
    rows = map(torch.sigmoid if new(x) else F.relu, x.unbind(0))
    return torch.stack(list(rows))  # here


def _helper(x: Tensor) -> Tensor:
    return torch.sigmoid(x)  # here


def in_a_helper_used_elsewhere(self: nn.Module, x: Tensor) -> Tensor:
    y = _helper(x)
    return _helper(y) if new(x) else y


def in_a_checkpointed_closure(self: nn.Module, x: Tensor) -> Tensor:
    if new(x):
        return checkpoint(lambda x: torch.sigmoid(x), x, use_reentrant=False)  # here
    return F.relu(x)


class OnTheWay(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x) if new(x) else F.relu(x)  # here


def in_a_module(self: Any, x: Tensor) -> Tensor:
    return self.way(x)


class Never(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)  # here


def in_a_module_that_did_not_run(self: Any, x: Tensor) -> Tensor:
    return self.never(x) if new(x) else F.relu(x)


def in_a_hook(self: Any, x: Tensor) -> Tensor:
    return self.hooked(x)


def _hook(module: nn.Module, args: Any, y: Tensor) -> Tensor:
    return torch.sigmoid(y) if new(y) else y  # here


BODIES = (
    *(in_a_loop, in_a_while_loop, in_a_list_comprehension, in_a_generator_expression, in_a_dict_comprehension),
    *(in_a_nested_function, in_a_lambda, in_a_function_given_to_map, in_a_helper_used_elsewhere),
    *(in_a_checkpointed_closure, in_a_module, in_a_module_that_did_not_run, in_a_hook),
)
HOME = {"in_a_module": OnTheWay, "in_a_module_that_did_not_run": Never, "in_a_hook": _hook}
HOME["in_a_helper_used_elsewhere"] = _helper
OWNERS = {
    in_a_module: "OnTheWay 'way'",
    in_a_module_that_did_not_run: "Never 'never'",
    in_a_hook: "Conv2d 'hooked'",
}


def _line(code: Any) -> int:
    """The line marked `here`."""
    lines, first = inspect.getsourcelines(code)
    return first + next(i for i, line in enumerate(lines) if line.rstrip().endswith("# here"))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_an_unrecorded_call_is_an_error_that_says_where_and_what_to_do(body: Any, around: Prepared, x: Tensor) -> None:
    hooked = nn.Conv2d(4, 4, 1)
    hooked.register_forward_hook(_hook)
    _, prepared = around(body, x, way=OnTheWay(), never=Never(), hooked=hooked)
    expected = prepared(x)
    with pytest.raises(UnrecordedCallError) as caught:
        prepared(torch.randn(3, 4, 6, 6))
    message = str(caught.value)
    owner = OWNERS.get(body, "Around")
    line = _line(HOME.get(body.__name__, body))
    assert message.startswith(f"sigmoid at {Path(__file__)}:{line} (in {owner}) meets a quantized tensor")
    assert "Give prepare inputs that" in message
    assert torch.equal(prepared(x), expected)  # and the model is whole


def test_an_operator_that_is_no_op_of_the_chip_is_an_error_too(around: Prepared, x: Tensor) -> None:
    _, prepared = around(lambda s, x: F.relu(torch.i0(x) if new(x) else x), x)
    with pytest.raises(UnrecordedCallError, match=r"i0 at .*test_unrecorded\.py:\d+ \(in Around\)"):
        prepared(torch.randn(3, 4, 6, 6))


def test_a_call_of_another_function_at_a_recorded_place_is_an_error(around: Prepared, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        act = torch.tanh if new(x) else torch.relu
        return act(x)

    _, prepared = around(body, x)
    with pytest.raises(UnrecordedCallError, match=r"tanh at .*test_unrecorded\.py:\d+ \(in Around\)"):
        prepared(torch.randn(3, 4, 6, 6))


@pytest.mark.parametrize("function", [F.relu, torch.relu, Tensor.relu, torch.add, Tensor.__rsub__])
def test_the_same_function_called_from_another_place_is_an_error(function: Any, around: Prepared, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        other = () if "relu" in function.__name__ else (1,)
        if new(x):
            return function(x, *other)
        return function(x, *other)

    _, prepared = around(body, x)
    with pytest.raises(UnrecordedCallError, match=r"at .*test_unrecorded\.py:\d+ \(in Around\)"):
        prepared(torch.randn(3, 4, 6, 6))


def test_a_call_that_meets_no_quantized_tensor_needs_no_scale(around: Prepared, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        scale = float(torch.sigmoid(torch.zeros(()))) if new(x) else 0.5
        return x * scale

    model, prepared = around(body, x)
    more = x.repeat(2, 1, 1, 1)
    torch.testing.assert_close(prepared(more), model(more), atol=0.05, rtol=0)


def _halved(x: Tensor, rounds: int) -> Tensor:
    y = F.relu(x)
    return y if rounds == 0 else _halved(y * 0.5, rounds - 1)


def test_a_recursion_that_goes_deeper_is_told_as_such(around: Prepared, x: Tensor) -> None:
    _, prepared = around(lambda s, x: _halved(x, x.shape[0]), x)
    prepared(x)
    with pytest.raises(
        UnrecordedCallError, match=r"(?s)mul at .*test_unrecorded\.py:\d+ .* deeper in a recursion than"
    ):
        prepared(torch.randn(3, 4, 6, 6))


def _shifted(x: Tensor, rounds: int) -> Tensor:
    return x * 0.5 if rounds == 0 else _scaled(x + 1, rounds - 1)


def _scaled(x: Tensor, rounds: int) -> Tensor:
    return x if rounds == 0 else _shifted(x * 2, rounds - 1)


def test_functions_that_call_each_other_are_a_recursion_too(around: Prepared, x: Tensor) -> None:
    _, prepared = around(lambda s, x: _shifted(x, 2 if new(x) else 1), x)
    with pytest.raises(UnrecordedCallError, match=r"mul at .* did not run on the example inputs"):  # it ended before
        prepared(torch.randn(3, 4, 6, 6))
    _, prepared = around(lambda s, x: _shifted(x, 4 if new(x) else 2), x)
    with pytest.raises(UnrecordedCallError, match=r"add at .* deeper in a recursion than"):
        prepared(torch.randn(3, 4, 6, 6))


MOVED = """
import torch
from torch import nn

from nashquant.quantization import DeQuantStub, QuantStub


class Moved(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, x):
        return self.dequant(torch.sigmoid(self.quant(x)))
"""


def test_the_cells_of_a_notebook_are_not_taken_for_files_that_moved(around: Prepared, x: Tensor) -> None:
    def cell(number: int, source: str, **names: Any) -> Any:
        exec(compile(source, f"/nowhere/ipykernel_7/{number}.py", "exec"), names)
        return names["defined"]

    helper = cell(1, "def defined(x): return torch.sigmoid(x)", torch=torch)
    branch = "def defined(s, x): return helper(x) if x.shape[0] > 2 else F.relu(x)"
    _, prepared = around(cell(2, branch, F=F, helper=helper), x)
    with pytest.raises(UnrecordedCallError, match=r"sigmoid at .*/1\.py:1 .* did not run on the example inputs"):
        prepared(torch.randn(3, 4, 6, 6))


@pytest.mark.parametrize("name", ["moved_net.py", "renamed_net.py"])
def test_a_pickled_model_whose_source_moved_names_the_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: Tensor
) -> None:
    was, now = tmp_path / "was" / "moved_net.py", tmp_path / "now" / name
    was.parent.mkdir()
    was.write_text(MOVED)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(was.parent)
        Moved = importlib.import_module("moved_net").Moved
        prepared = prepare(Moved().eval(), x, default_qat_qconfig_setter, save_dir=None)
        set_fake_quantize(prepared, "float")
        pickled = pickle.dumps(prepared)
        del sys.modules["moved_net"]
    now.parent.mkdir()
    was.rename(now)
    monkeypatch.syspath_prepend(now.parent)
    if name != was.name:
        sys.modules["moved_net"] = importlib.import_module(now.stem)  # as one does to load it at all
    loaded = pickle.loads(pickled)
    with pytest.raises(UnrecordedCallError) as caught:
        loaded(x)
    was.write_text(MOVED)
    with pytest.raises(UnrecordedCallError, match="did not run on the example inputs"):  # nothing is gone
        loaded(x)
    del sys.modules["moved_net"]
    assert str(caught.value).startswith(
        f"sigmoid at {now}:14 (in Moved) meets a quantized tensor, but the calls of this"
    )
    assert f"were recorded in {was}, which is not there any more" in str(caught.value)
    assert "load the state_dict" in str(caught.value)

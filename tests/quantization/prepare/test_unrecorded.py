"""A call that prepare never saw is an error with file, line, owner and what to do, wherever it is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nashquant.quantization import UnrecordedCallError

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

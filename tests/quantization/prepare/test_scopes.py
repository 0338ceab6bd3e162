"""Which module a functional call's quantizers go to, and under what name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.quantization import set_fake_quantize

Prepared = Callable[..., tuple[nn.Module, Any]]


def generated(model: nn.Module) -> list[str]:
    """Paths of all modules that `prepare` added, in the order of the modules that own them."""
    return [path for path, _ in model.named_modules() if path.rpartition(".")[2].startswith("_generated")]


def holds(model: nn.Module, prepared: Any, x: Tensor) -> None:
    """The prepared model is close to the float one, and the same in the float state."""
    torch.testing.assert_close(prepared(x), model(x), atol=0.15, rtol=0.1)
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(x), model(x))


class Leaf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x * 0.5)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.leaf = Leaf()

    def forward(self, x: Tensor) -> Tensor:
        return self.leaf(x) + x


def test_a_call_belongs_to_the_innermost_module_whose_forward_makes_it(around: Prepared, x: Tensor) -> None:
    model, prepared = around(lambda s, x: s.tree.inner(x) * 0.5, x, tree=nn.ModuleDict({"inner": Branch()}))
    assert generated(prepared) == [
        *("tree.inner.leaf._generated_mul_0", "tree.inner.leaf._generated_relu_0", "tree.inner._generated_add_0"),
        "_generated_mul_0",
    ]
    holds(model, prepared, x)


def test_each_of_a_module_list_has_its_own(around: Prepared, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x) + i
        return x

    model, prepared = around(body, x, blocks=nn.ModuleList(Leaf() for _ in range(3)))
    own = [f"blocks.{i}._generated_{op}_0" for i in range(3) for op in ("mul", "relu")]
    assert generated(prepared) == [*own, *(f"_generated_add_{i}" for i in range(3))]
    holds(model, prepared, x)


def _halve(x: Tensor) -> Tensor:
    return x * 0.5


def test_a_function_outside_of_modules_counts_for_each_place_that_calls_it(around: Prepared, x: Tensor) -> None:
    model, prepared = around(lambda s, x: _halve(s.leaf(_halve(x))) + _halve(x), x, leaf=Leaf())
    assert generated(prepared) == [
        *("leaf._generated_mul_0", "leaf._generated_relu_0", "_generated_mul_0", "_generated_mul_1"),
        *("_generated_mul_2", "_generated_add_0"),
    ]
    scales = [getattr(prepared, f"_generated_mul_{i}").activation_post_process.scale for i in range(3)]
    assert scales[0] == scales[2] > scales[1]  # halved once, once, and thrice
    holds(model, prepared, x)


def scaled(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Tensor:
        return function(*args, **kwargs) * 0.5

    return wrapped


@scaled
def _decorated(x: Tensor) -> Tensor:
    return F.relu(x)


class Decorated(nn.Module):
    @scaled
    def forward(self, x: Tensor) -> Tensor:
        return _decorated(x) + 1


def test_decorators_are_part_of_the_way(around: Prepared, x: Tensor) -> None:
    model, prepared = around(lambda s, x: s.block(x), x, block=Decorated())
    assert generated(prepared) == [
        *("block._generated_relu_0", "block._generated_mul_0", "block._generated_add_0", "block._generated_mul_1"),
    ]
    holds(model, prepared, x)


def test_a_generator_belongs_to_who_consumes_it(around: Prepared, x: Tensor) -> None:
    class Consumer(nn.Module):
        def forward(self, rows: Any) -> Tensor:
            return torch.stack(list(rows))

    def body(self: Any, x: Tensor) -> Tensor:
        return self.consumer(F.relu(row) for row in x.unbind(0))

    model, prepared = around(body, x, consumer=Consumer())
    assert generated(prepared) == [
        *("consumer._generated_relu_0", "consumer._generated_relu_1", "consumer._generated_stack_0"),
    ]
    holds(model, prepared, x)


def test_comprehensions_and_generators_of_one_forward_are_told_apart(around: Prepared, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        parts = [F.relu(row) for row in x.unbind(0)]
        parts += (F.relu(-row * 4) for row in x.unbind(0))
        return torch.stack(parts)

    model, prepared = around(body, x)
    scales = [getattr(prepared, f"_generated_relu_{i}").activation_post_process.scale for i in range(4)]
    assert min(scales[2:]) > 2 * max(scales[:2])
    holds(model, prepared, x)


def test_a_method_that_is_not_forward_belongs_to_the_forward_that_runs(around: Prepared, x: Tensor) -> None:
    class Helper(nn.Module):
        def act(self, x: Tensor) -> Tensor:
            return F.relu(x)

    model, prepared = around(lambda s, x: s.helper.act(x), x, helper=Helper())
    assert generated(prepared) == ["_generated_relu_0"]
    holds(model, prepared, x)


def test_recursion_gives_each_depth_its_own(around: Prepared, x: Tensor) -> None:
    def halve(x: Tensor, times: int) -> Tensor:
        return halve(x * 0.5, times - 1) if times else x

    model, prepared = around(lambda s, x: halve(x, 3), x)
    scales = [getattr(prepared, f"_generated_mul_{i}").activation_post_process.scale for i in range(3)]
    torch.testing.assert_close(scales[1] / scales[0], torch.tensor([0.5]), atol=0.05, rtol=0)
    torch.testing.assert_close(scales[2] / scales[1], torch.tensor([0.5]), atol=0.05, rtol=0)
    holds(model, prepared, x)

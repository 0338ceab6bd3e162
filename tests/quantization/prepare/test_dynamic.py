"""Loops whose number of rounds depends on the data: with `dynamic_block`, and plain."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.fx.jit_scheme import Tracer, dynamic_block
from nashquant.quantization import UnrecordedCallError, check_result_of, prepare, set_fake_quantize
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter

from .conftest import Around

Prepared = Callable[..., tuple[nn.Module, Any]]


def _generated(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_children() if name.startswith("_generated")]


def in_the_loop(self: nn.Module, x: Tensor) -> Tensor:
    for _ in range(x.shape[0]):
        with Tracer.dynamic_block(self, "refine"):
            x = F.relu(self.conv(x) * 0.5) + x * 0.5
    return x


def around_the_loop(self: nn.Module, x: Tensor) -> Tensor:
    with dynamic_block():
        for _ in range(x.shape[0]):
            x = F.relu(self.conv(x) * 0.5) + x * 0.5
    return x


@dynamic_block()
def _round(self: nn.Module, x: Tensor) -> Tensor:
    return F.relu(self.conv(x) * 0.5) + x * 0.5


def in_a_function_called_in_the_loop(self: nn.Module, x: Tensor) -> Tensor:
    for _ in range(x.shape[0]):
        x = _round(self, x)
    return x


BLOCKS = {body.__name__: body for body in (in_the_loop, around_the_loop, in_a_function_called_in_the_loop)}


@pytest.mark.parametrize("block", BLOCKS)
def test_all_rounds_of_a_dynamic_block_share_one_module_for_each_call(block: str, around: Prepared, x: Tensor) -> None:
    model, prepared = around(BLOCKS[block], x, conv=nn.Conv2d(4, 4, 1))
    assert _generated(prepared) == [
        *("_generated_mul_0", "_generated_relu_0", "_generated_mul_1", "_generated_add_0")  # and not two of each
    ]
    for rounds in (1, 2, 7):
        more = x.repeat(4, 1, 1, 1)[:rounds] * 0.5
        torch.testing.assert_close(prepared(more), model(more), atol=0.1, rtol=0.1)
        steps = prepared(more) / prepared._generated_add_0.activation_post_process.scale
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    assert dict(check_result_of(prepared).called_times) == {"conv": 2}
    set_fake_quantize(prepared, "float")
    assert torch.equal(prepared(more), model(more))


def test_every_round_of_a_block_moves_its_range(around: Prepared) -> None:
    def growing(self: nn.Module, x: Tensor) -> Tensor:
        for _ in range(3):
            with dynamic_block(self):
                x = x * 2
        return x

    x = torch.rand(1, 4)
    _, prepared = around(growing, x)
    top = torch.zeros(())
    for i, size in enumerate((2, 4, 8)):
        top = x.max() * size if i == 0 else top + 0.01 * (x.max() * size - top)  # the moving average
    torch.testing.assert_close(prepared._generated_mul_0.activation_post_process.activation_post_process.max_val, top)


def test_without_a_block_rounds_have_modules_of_their_own_and_one_more_is_an_error(around: Prepared, x: Tensor) -> None:
    def plain(self: nn.Module, x: Tensor) -> Tensor:
        for _ in range(x.shape[0]):
            x = x * 0.5
        return x

    model, prepared = around(plain, torch.randn(3, 4, 6, 6))
    assert _generated(prepared) == ["_generated_mul_0", "_generated_mul_1", "_generated_mul_2"]
    for rounds in (1, 2, 3):
        torch.testing.assert_close(prepared(x[:rounds]), model(x[:rounds]), atol=0.05, rtol=0)
    with pytest.raises(UnrecordedCallError, match=r"mul at .*py:\d+ \(in Around\).* 3 time\(s\) .*dynamic_block"):
        prepared(torch.randn(4, 4, 6, 6))


def test_a_call_that_the_block_did_not_make_at_prepare_is_an_error(around: Prepared, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        for i in range(x.shape[0]):
            with dynamic_block(self):
                x = torch.tanh(x) if i == 2 else torch.relu(x)
        return x

    _, prepared = around(body, x)
    with pytest.raises(UnrecordedCallError, match=r"tanh at .*py:\d+ \(in Around\).*did not run"):
        prepared(torch.randn(3, 4, 6, 6))


def test_what_follows_a_block_is_counted_again(around: Prepared, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        for i in range(4):
            with dynamic_block(self) if i < 2 else nullcontext():
                x = x * 0.5
        return x

    model, prepared = around(body, x)
    assert _generated(prepared) == ["_generated_mul_0", "_generated_mul_1"]
    torch.testing.assert_close(prepared(x), model(x), atol=0.05, rtol=0)


def test_a_round_that_fails_ends_its_block(around: Prepared, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        try:
            with dynamic_block(self):
                raise KeyError
        except KeyError:
            pass
        for _ in range(2):
            x = x * 0.5
        return x

    assert _generated(around(body, x)[1]) == ["_generated_mul_0", "_generated_mul_1"]


def test_a_block_holds_for_its_own_forward_and_not_for_those_it_calls(around: Prepared, x: Tensor) -> None:
    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(2):
                x = x * 0.5
            return x

    def body(self: nn.Module, x: Tensor) -> Tensor:
        for _ in range(2):
            with dynamic_block(self):
                x = self.twice(x)
        return x

    _, prepared = around(body, x, twice=Twice())
    assert _generated(prepared.twice) == ["_generated_mul_0", "_generated_mul_1"]


def test_a_float_model_runs_its_blocks_as_if_they_were_not_there(x: Tensor) -> None:
    model = Around(in_the_loop, conv=nn.Conv2d(4, 4, 1))
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), model(x))
    with pytest.raises(TypeError, match="dynamic_block takes the module whose forward it is in, and a name, not 'a'"):
        dynamic_block("a").__enter__()  # type: ignore[arg-type]


def test_copies_and_pickles_keep_the_blocks(around: Prepared, x: Tensor) -> None:
    _, prepared = around(in_the_loop, x, conv=nn.Conv2d(4, 4, 1))
    more = torch.randn(5, 4, 6, 6)
    for twin in (copy.deepcopy(prepared), pickle.loads(pickle.dumps(prepared))):
        assert torch.equal(twin(more), prepared(more))


def test_an_exported_block_has_the_rounds_of_its_example_on_one_scale(around: Prepared, x: Tensor) -> None:
    _, prepared = around(in_the_loop, x, conv=nn.Conv2d(4, 4, 1))
    more = torch.randn(3, 4, 6, 6)
    assert torch.equal(torch.export.export(prepared, (more,)).module()(more), prepared(more))


def test_a_compiler_can_not_tell_rounds_apart_and_says_so(around: Prepared, x: Tensor) -> None:
    _, prepared = around(in_the_loop, x, conv=nn.Conv2d(4, 4, 1))
    with pytest.raises(Exception, match="a dynamic_block of a prepared model can't be compiled"):
        torch.compile(prepared, fullgraph=True, backend="eager")(x)


def test_gradients_reach_the_input_through_every_round(x: Tensor) -> None:
    model = Around(in_the_loop, conv=nn.Conv2d(4, 4, 1))
    prepared = prepare(model, x, default_calibration_qconfig_setter, save_dir=None).train()
    set_fake_quantize(prepared, "qat")
    leaf = torch.randn(4, 4, 6, 6).requires_grad_()
    prepared(leaf).sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.abs().min() > 0

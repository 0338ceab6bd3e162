"""The forward of a prepared model under threads, compilers and wrappers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.nn import qat
from nashquant.op_kind import OpKind
from nashquant.quantization.prepare.registry import function_entry, known_functions
from nashquant.quantization.prepare.scope import redirections

Around = Callable[..., tuple[nn.Module, Any]]


def body(self: nn.Module, x: Tensor) -> Tensor:
    return F.relu(x + 1) * 2


def test_threads_do_not_meet(around: Around, x: Tensor) -> None:
    _, prepared = around(body, x)
    inputs = [x * (i + 1) for i in range(8)]
    expected = [prepared(item) for item in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(map(torch.equal, pool.map(prepared, inputs), expected))


def test_a_failing_forward_leaves_nothing_behind(around: Around, x: Tensor) -> None:
    def fragile(self: nn.Module, x: Tensor) -> Tensor:
        y = F.relu(x)
        if x.shape[0] == 1:
            raise KeyError("inside")
        return y

    _, prepared = around(fragile, x)
    expected = prepared(x)
    with pytest.raises(KeyError, match="inside"):
        prepared(x[:1])
    assert torch.equal(prepared(x), expected)
    assert torch.relu(-x).sum() == F.relu(-x).sum()  # and functions outside are torch's own


@pytest.mark.skipif(sys.version_info < (3, 11), reason="an error has no notes before Python 3.11")
def test_an_error_from_inside_a_layer_names_it(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: s.sub(s.conv(x)).mean((2, 3)), x, conv=nn.Conv2d(4, 4, 1), sub=Sub())
    for bad, where in ((x[:, :2], "'conv' (Conv2d)"), (x[0], "'_generated_mean_0' (FloatFunctional)")):
        with pytest.raises((IndexError, RuntimeError)) as caught:
            prepared(bad)
        assert caught.value.__notes__ == [f"in {where} of the prepared {type(prepared).__name__}"]


def test_a_compiled_model_gives_the_same_bits_in_one_graph(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: s.sub(F.relu(s.conv(x)) + 1), x, conv=nn.Conv2d(4, 4, 1), sub=Sub())
    compiled = torch.compile(prepared, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), prepared(x))


class Sub(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sigmoid() * x


def test_export_captures_each_quantizer_as_one_op(around: Around, x: Tensor) -> None:
    _, prepared = around(body, x)
    program = torch.export.export(prepared, (x,), strict=False)
    calls = [str(node.target) for node in program.graph.nodes if "fake_quantize" in str(node.target)]
    assert calls == ["nashquant.fake_quantize_per_tensor.tensor"] * 4
    assert torch.equal(program.module()(x), prepared(x))


def test_forward_keeps_its_signature(around: Around, x: Tensor) -> None:
    model, prepared = around(body, x)
    assert inspect.signature(prepared.forward) == inspect.signature(model.forward)


def test_only_modules_that_own_calls_get_another_class(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: s.wrap(x), x, wrap=nn.Sequential(nn.Flatten(), nn.Sequential(Sub())))
    assert type(prepared.wrap) is nn.Sequential
    assert type(prepared.wrap[0]) is nn.Flatten
    owner = prepared.wrap[1][0]
    assert isinstance(owner, Sub)
    assert sorted(to.module for to in redirections(owner).values()) == ["_generated_mul_0", "_generated_sigmoid_0"]
    assert all(isinstance(child, qat.FloatFunctional) for child in owner.children())


def test_a_forward_patched_onto_an_instance_is_still_the_one_that_runs(x: Tensor, around: Around) -> None:
    sub = Sub()
    sub.forward = lambda x: x.tanh()  # type: ignore[method-assign, assignment]
    model, prepared = around(lambda s, x: s.sub(x), x, sub=sub)
    assert hasattr(prepared.sub, "_generated_tanh_0")
    torch.testing.assert_close(prepared(x), model(x), atol=0.05, rtol=0)


def test_calls_inside_a_torch_module_s_own_forward_are_its_own(around: Around) -> None:
    _, prepared = around(lambda s, x: s.b(s.a(x)), torch.randn(1, 3, 4), a=_encoder_layer(), b=_encoder_layer())
    owners = {name.partition("._generated")[0] for name, _ in prepared.named_modules() if "_generated" in name}
    assert owners == {"a", "b", "a.self_attn", "b.self_attn"}


def _encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(4, 1, 4, batch_first=True)


def test_all_spellings_of_a_function_are_one_op() -> None:
    add = {function_entry(f) for f in (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__)}
    assert len(add) == 1
    assert function_entry(torch.max, (torch.ones(1), 0)).kind is OpKind.PASS  # type: ignore[union-attr]
    assert function_entry(torch.max, (torch.ones(1), torch.ones(1))).name == "maximum"  # type: ignore[union-attr]
    assert function_entry(torch.i0) is None
    x = torch.ones(1)
    assert function_entry(torch.pow, (x, 2)).kind is OpKind.LUT  # type: ignore[union-attr]
    assert function_entry(Tensor.__rpow__, (x, 2)).kind is OpKind.LUT  # type: ignore[union-attr]
    assert function_entry(torch.pow, (2, x)).kind is OpKind.LUT  # type: ignore[union-attr]
    assert function_entry(torch.pow, (x,), {"exponent": x}).name == "pow_tensor"  # type: ignore[union-attr]
    assert len(known_functions()) > 300


def test_two_operands_by_keyword_are_found_again_when_the_model_runs(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: torch.max(x, other=x * 0.5), x)
    scale = prepared._generated_maximum_0.activation_post_process.scale
    assert torch.equal((prepared(x) / scale).round() * scale, prepared(x))


def test_a_quantized_module_can_be_parametrized_afterwards(around: Around) -> None:
    x = torch.randn(3, 6)
    _, prepared = around(lambda s, x: s.norm(x), x, norm=nn.LayerNorm(6))
    expected = prepared(x)
    nn.utils.parametrize.register_parametrization(prepared.norm, "weight", nn.Identity())
    assert torch.equal(prepared(x), expected)


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_hook_on_a_quantizer_is_called(everywhere: bool, around: Around, x: Tensor) -> None:
    _, prepared = around(body, x)
    quantizer, seen = prepared._generated_relu_0.activation_post_process, []

    def hook(module: nn.Module, args: Any, y: Tensor) -> None:
        if module is quantizer:
            seen.append(y)

    register = nn.modules.module.register_module_forward_hook if everywhere else quantizer.register_forward_hook
    handle = register(hook)
    try:
        prepared(x)
    finally:
        handle.remove()
    prepared(x)
    assert len(seen) == 1

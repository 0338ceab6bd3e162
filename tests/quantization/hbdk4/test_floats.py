"""The bound on what floats make of an op: f32 stays inside it, whatever the order of its sums, and it is no wider than
the bits of an f32 make it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from nashquant.quantization.hbdk4._floats import apply
from nashquant.quantization.hbdk4._near import Near

aten: Any = torch.ops.aten
U = 2.0**-24
IMAGE, WEIGHT = (2, 6, 7, 7), (5, 6, 3, 3)

# The op, the shapes of its floats, its other arguments, and by how many u of the largest value f32 may err at most.
CASES: dict[str, tuple[Any, list[tuple[int, ...]], tuple[Any, ...], float]] = {
    "conv2d": (aten.conv2d.default, [IMAGE, WEIGHT, (5,)], ([1, 1], [1, 1]), 200),
    "convolution": (
        aten.convolution.default,
        [IMAGE, (6, 5, 2, 2), (5,)],
        ([2, 2], [0, 0], [1, 1], True, [0, 0], 1),
        200,
    ),
    "linear": (aten.linear.default, [(4, 32), (8, 32), (8,)], (), 200),
    "matmul": (aten.matmul.default, [(2, 4, 32), (2, 32, 8)], (), 200),
    "addmm": (aten.addmm.default, [(8,), (4, 32), (32, 8)], (), 200),
    "mean": (aten.mean.dim, [IMAGE], ([2, 3],), 300),
    "cumsum": (aten.cumsum.default, [(4, 16)], (1,), 50),
    "avg_pool2d": (aten.avg_pool2d.default, [IMAGE], ([3, 3], [1, 1]), 40),
    "resize": (aten.upsample_bilinear2d.vec, [IMAGE], ([11, 13], False, None), 400),
    "grid_sample": (aten.grid_sampler.default, [IMAGE, (2, 3, 3, 2)], (0, 0, False), 400),
    "softmax": (aten.softmax.int, [(4, 16)], (1,), 200),
    "log_softmax": (aten.log_softmax.int, [(4, 16)], (1,), 200),
    "layer_norm": (aten.layer_norm.default, [(4, 16)], ([16],), 400),
    "var": (aten.var.correction, [(4, 16)], ([1],), 200),
    "add": (aten.add.Tensor, [(4, 1), (3,)], (), 20),
    "div": (aten.div.Tensor, [(9,)], (0.3,), 20),
    "exp": (aten.exp.default, [(99,)], (), 100),
    "gelu": (aten.gelu.default, [(99,)], (), 100),
    "clamp": (aten.clamp.default, [(99,)], (-0.5, 0.5), 20),
    "relu6": (aten.relu6.default, [(99,)], (), 20),
    "cat": (aten.cat.default, [], ([torch.ones(2), torch.ones(3)],), 0),
    "pad": (aten.pad.default, [(3,)], ([1, 1], "constant", 0.1), 4),
    "max_pool2d": (aten.max_pool2d.default, [IMAGE], ([2, 2],), 4),
    "amin": (aten.amin.default, [(4, 9)], ([1],), 4),
}


def near(x: Tensor, error: float = 0.0) -> Near:
    return Near(x.double(), torch.full(x.shape, error, dtype=torch.float64))


def given(name: str, change: Callable[[Tensor], Any]) -> list[Any]:
    """The arguments of a case, each tensor of floats after `change`."""
    _, shapes, rest, _ = CASES[name]
    generator = torch.Generator().manual_seed(1)
    floats = [change(torch.randn(shape, generator=generator)) for shape in shapes]
    return [*floats, *pytree.tree_map_only(Tensor, change, rest)]


@pytest.mark.parametrize("name", CASES)
def test_f32_stays_within_the_bound(name: str) -> None:
    op, _, _, widest = CASES[name]
    found = apply(op, tuple(given(name, near)), {}, U)
    y = op(*given(name, lambda x: x)).double()
    assert ((y - found.value).abs() <= found.error).all()
    assert found.error.max() <= widest * U * found.value.abs().max()
    assert torch.equal(found.value, op(*given(name, Tensor.double))) or name in ("div", "pad")


@pytest.mark.parametrize("name", CASES)
def test_what_comes_in_with_an_error_goes_out_with_it(name: str) -> None:
    op, small = CASES[name][0], 1e-6
    found = apply(op, tuple(given(name, lambda x: near(x, small))), {}, U)
    seen = torch.zeros_like(found.value)
    for seed in range(20):
        noise = torch.Generator().manual_seed(seed)

        def moved(x: Tensor, noise: torch.Generator = noise) -> Tensor:
            return x.double() + small * (2 * torch.randint(0, 2, x.shape, generator=noise) - 1)

        seen = torch.maximum(seen, (op(*given(name, moved)) - found.value).abs())
    assert (seen <= found.error).all()
    assert found.error.max() <= 200 * seen.max()


def test_the_bound_of_a_sum_holds_in_every_order() -> None:
    # 2²⁴ + 1 + 1 is 2²⁴ from the left in f32 and 2²⁴ + 2 from the right: two steps apart, and both inside.
    found = apply(aten.sum.dim_IntList, (near(torch.tensor([2.0**24, 1.0, 1.0])), [0]), {}, U)
    assert found.value == 2**24 + 2
    assert 2 <= found.error <= 6


def test_the_literals_of_arithmetic() -> None:
    product = apply(aten.mul.Tensor, (near(torch.tensor([3.0]), 0.5), near(torch.tensor([4.0]), 0.25)), {}, U)
    assert product.value == 12
    assert product.error == pytest.approx(4 * 0.5 + 3 * 0.25)
    assert apply(aten.view.default, (near(torch.ones(2), 0.5), [1, 2]), {}, U).error.tolist() == [[0.5, 0.5]]
    assert apply(aten.full.default, ([1], 0.1), {"dtype": torch.float32}, U).error == pytest.approx(0.1 * U)


def test_what_is_no_float_stays_as_it_is() -> None:
    assert apply(aten.sym_size.int, (near(torch.ones(3, 2)), 0), {}, U) == 3
    assert torch.equal(apply(aten.argmax.default, (near(torch.tensor([1.0, 3.0])),), {}, U), torch.tensor(1))
    masked = apply(aten.masked_fill.Scalar, (near(torch.zeros(2)), torch.tensor([True, False]), -torch.inf), {}, U)
    scores = apply(aten.softmax.int, (masked, 0), {}, U)
    assert scores.value.tolist() == [0.0, 1.0]
    assert scores.error.isfinite().all()


def test_an_op_without_a_rule_is_held_to_bits_of_its_largest_value() -> None:
    found = apply(aten.prod.default, (near(torch.tensor([2.0, -8.0])),), {}, U)
    assert (found.value, found.error) == (-16, 16 * U * 16)

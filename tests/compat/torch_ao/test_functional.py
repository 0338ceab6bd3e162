"""torch's functions of fake quantization: values, gradients and complaints."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from nashquant.compat.torch_ao import exact_parity, functional

FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
RANGES = ((-128, 127), (-127, 127), (0, 255), (0, 1), (-8, 7), (-(2**15), 2**15 - 1), (-(2**31), 2**31 - 1))
tensor_affine, channel_affine = functional.fake_quantize_per_tensor_affine, functional.fake_quantize_per_channel_affine
SCALE, POINT = torch.tensor([0.1]), torch.tensor([3], dtype=torch.int32)


def same(mine: Tensor, theirs: Tensor) -> None:
    assert mine.dtype == theirs.dtype
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


def special(dtype: torch.dtype) -> Tensor:
    ends = torch.tensor([0.0, -0.0, 1e-40, 0.05, 0.15, 0.25, -0.05, 12.75, -12.85, 1e4, -1e4, float("nan")])
    return torch.cat([ends, torch.randn(500) * 10, torch.randn(500) * 1000]).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("point", [0, 1])
@pytest.mark.parametrize("as_tensors", [True, False])
def test_per_tensor_values_and_gradients_are_torchs(dtype, ends, point, as_tensors) -> None:
    grid = (SCALE, torch.tensor([point], dtype=torch.int32)) if as_tensors else (0.1, point)
    values, results = special(dtype), []
    for function in (tensor_affine, torch.fake_quantize_per_tensor_affine):
        x = values.clone().requires_grad_()
        y = function(x, *grid, *ends)
        y.backward(torch.linspace(-2, 2, y.numel()).to(dtype))
        results.append((y.detach(), x.grad))
    for mine, theirs in zip(*results, strict=True):
        same(mine, theirs)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("ends", RANGES)
@pytest.mark.parametrize("points", [torch.int32, torch.float32, torch.float16])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_per_channel_values_and_gradients_are_torchs(dtype, ends, points, axis) -> None:
    channels = (4, 5, 3)[axis]
    scale, point = torch.rand(channels) + 0.01, torch.randint(0, 2, (channels,)).to(points)
    values, results = (torch.randn(4, 5, 3) * 50).to(dtype), []
    for function in (channel_affine, torch.fake_quantize_per_channel_affine):
        x = values.clone().requires_grad_()
        y = function(x, scale, point, axis, *ends)
        y.backward(torch.linspace(-2, 2, y.numel()).reshape(y.shape).to(dtype))
        results.append((y.detach(), x.grad))
    for mine, theirs in zip(*results, strict=True):
        same(mine, theirs)


@pytest.mark.parametrize("scale", [0.0, -0.1, float("inf"), float("nan"), 1e-45, 3.0, 1])
@pytest.mark.parametrize("as_tensors", [True, False])
def test_odd_scales_give_what_torch_gives(scale, as_tensors) -> None:
    x = torch.randn(20)
    grid = (torch.tensor([scale]).float(), POINT) if as_tensors else (scale, 3)
    same(tensor_affine(x, *grid, 0, 255), torch.fake_quantize_per_tensor_affine(x, *grid, 0, 255))
    if as_tensors:
        same(
            channel_affine(x[None], *grid, 0, 0, 255), torch.fake_quantize_per_channel_affine(x[None], *grid, 0, 0, 255)
        )


X = torch.randn(2, 3)
WRONG_PER_TENSOR = [
    (X, 0.1, 3, 5, 1),
    (X, 0.1, 300, 0, 255),
    (X.int(), 0.1, 3, 0, 255),
    (X, torch.ones(2), POINT, 0, 255),
    (X, SCALE, torch.zeros(2, dtype=torch.int32), 0, 255),
    (X, SCALE, 3, 0, 255),
    (X, 0.1, POINT, 0, 255),
    (X, 0.1, 3.5, 0, 255),
    (X, 0.1, 3, 0.0, 255),
    (X, 0.1, 2**40, 0, 255),
    (X, 0.1, 2**70, 0, 255),
]
S, Z = torch.tensor([0.1, 0.2]), torch.tensor([0, 1], dtype=torch.int32)
WRONG_PER_CHANNEL = [
    (X, S, Z.long(), 0, 0, 255),
    (X, S.double(), Z, 0, 0, 255),
    (X, S, Z, -2, 0, 255),
    (X, S, Z, -1, 0, 255),
    (X, S, Z, 5, 0, 255),
    (X, S, Z, 1, 0, 255),
    (X, S, Z, 0, 5, 0),
    (X, S, Z + 400, 0, 0, 255),
    (X, S[:1], Z, 0, 0, 255),
    (X, S.reshape(2, 1), Z, 0, 0, 255),
    (X.int(), S, Z, 0, 0, 255),
    (X[:0], S[:0], Z[:0], 0, 0, 255),
]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *itertools.product(["fake_quantize_per_tensor_affine"], WRONG_PER_TENSOR),
        *itertools.product(["fake_quantize_per_channel_affine"], WRONG_PER_CHANNEL),
    ],
)
def test_complaints_are_torchs(name, arguments) -> None:
    with pytest.raises(Exception) as expected:  # noqa: PT011  (which one is what the test finds out)
        getattr(torch, name)(*arguments)
    with pytest.raises(type(expected.value)) as got:
        getattr(functional, name)(*arguments)
    assert str(got.value) == str(expected.value)


def outcome(function, *arguments: object) -> Tensor | str:
    try:
        return function(*arguments)
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("ends", [(0, 2**40), (-(2**33), 2**33)])
@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("fake_quantize_per_tensor_affine", (SCALE, torch.tensor([3]))),
        ("fake_quantize_per_tensor_affine", (SCALE, torch.tensor([torch.inf]))),
        ("fake_quantize_per_channel_affine", (S, Z, 0)),
        ("_fake_quantize_learnable_per_tensor_affine", (SCALE, torch.tensor([3.0]))),
    ],
)
def test_integers_beyond_32_bits_are_torchs_to_handle(name, grid, ends) -> None:
    expected = outcome(getattr(torch, name), X, *grid, *ends)
    got = outcome(getattr(functional, name), X, *grid, *ends)
    assert got == expected if isinstance(expected, str) else torch.equal(got, expected)


def test_arguments_have_torchs_names() -> None:
    y = tensor_affine(input=X, scale=0.1, zero_point=3, quant_min=0, quant_max=255)
    same(y, torch.fake_quantize_per_tensor_affine(input=X, scale=0.1, zero_point=3, quant_min=0, quant_max=255))
    grid = {"scale": S, "zero_point": Z, "axis": 0, "quant_min": 0, "quant_max": 255}
    same(channel_affine(input=X, **grid), torch.fake_quantize_per_channel_affine(input=X, **grid))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_empty_tensors_stay_empty(shape) -> None:
    assert tensor_affine(torch.empty(shape), 0.1, 3, 0, 255).shape == shape


def test_a_second_derivative_is_that_of_the_mask() -> None:
    for function in (tensor_affine, torch.fake_quantize_per_tensor_affine):
        x = torch.tensor([0.3, 999.0], requires_grad=True)
        (first,) = torch.autograd.grad(function(x, 0.1, 3, 0, 255).square().sum(), x, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), x)
        assert second.tolist() == [2.0, 0.0]


def test_gradcheck_holds_where_the_function_is_flat() -> None:
    x = torch.tensor([500.0, -500.0, 900.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tensor_affine(x, 0.1, 3, 0, 255), x)
    assert torch.autograd.gradcheck(lambda x: channel_affine(x[:2, None], S, Z, 0, 0, 255), x)


# torch.func

BATCH = torch.randn(6, 2, 3) * 20
GRIDS = [(torch.tensor([s]), torch.tensor([z])) for s, z in ((-0.5, 0.0), (0.1, 2.0), (0.7, 1.0))]


@pytest.mark.parametrize(
    "one",
    [
        lambda x: tensor_affine(x, 0.1, 3, 0, 255),
        lambda x: tensor_affine(x, SCALE, POINT, 0, 255),
        lambda x: channel_affine(x, S, Z, 0, 0, 255),
    ],
)
def test_vmap_is_the_function_of_each(one) -> None:
    same(vmap(one)(BATCH), torch.stack([one(x) for x in BATCH]))
    gradients = vmap(grad(lambda x: (one(x) * x.detach()).sum()))(BATCH)
    for x, g in zip(BATCH, gradients, strict=True):
        x = x.clone().requires_grad_()
        (one(x) * x.detach()).sum().backward()
        same(g, x.grad)


def test_vmap_may_be_over_scales() -> None:
    scales, points = torch.rand(6, 1) + 0.1, torch.arange(6, dtype=torch.int32).reshape(6, 1)
    each = torch.stack([tensor_affine(x, s, z, 0, 255) for x, s, z in zip(BATCH, scales, points, strict=True)])
    same(vmap(lambda x, s, z: tensor_affine(x, s, z, 0, 255))(BATCH, scales, points), each)


def test_the_fused_function_says_why_it_cannot_be_batched() -> None:
    state = (torch.ones(1), torch.ones(1), torch.tensor(torch.inf), torch.tensor(-torch.inf), SCALE, POINT)
    with pytest.raises(RuntimeError, match=r"writes to its range.*torch\.func can't batch"):
        vmap(lambda x: functional.fused_moving_avg_obs_fake_quant(x, *state, 0.01, 0, 255, -1))(BATCH)


# A scale that is learned


def learn(function, x: Tensor, scale: Tensor, point: Tensor, *rest: object) -> list[Tensor]:
    x, scale, point = (value.clone().requires_grad_() for value in (x, scale, point))
    y = function(x, scale, point, *rest)
    y.backward(torch.linspace(-2, 2, y.numel()).reshape(y.shape))
    return [y.detach(), x.grad, scale.grad, point.grad]


@pytest.mark.parametrize("point", [0.0, 3.0, 2.4])
@pytest.mark.parametrize("factor", [1.0, 0.01])
@pytest.mark.parametrize("ends", RANGES[:5])
def test_learning_per_tensor_is_torchs(point, factor, ends) -> None:
    x, point = torch.randn(30, 30) * 10, torch.tensor([point])
    mine = learn(functional._fake_quantize_learnable_per_tensor_affine, x, SCALE, point, *ends, factor)
    theirs = learn(torch._fake_quantize_learnable_per_tensor_affine, x, SCALE, point, *ends, factor)
    same(mine[0], theirs[0])
    same(mine[1], theirs[1])
    torch.testing.assert_close(mine[2:], theirs[2:], rtol=1e-4, atol=1e-3)  # sums in another order


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("ends", RANGES[:5])
def test_learning_per_channel_is_torchs(axis, ends) -> None:
    x = torch.randn(4, 5, 6) * 10
    scale, point = torch.rand((4, 5)[axis]) + 0.05, torch.rand((4, 5)[axis]) * 3
    mine = learn(functional._fake_quantize_learnable_per_channel_affine, x, scale, point, axis, *ends, 0.5)
    theirs = learn(torch._fake_quantize_learnable_per_channel_affine, x, scale, point, axis, *ends, 0.5)
    same(mine[0], theirs[0])
    same(mine[1], theirs[1])
    torch.testing.assert_close(mine[2:], theirs[2:], rtol=1e-4, atol=1e-3)


def test_a_second_derivative_of_a_learned_scale_is_refused() -> None:
    for function in (
        functional._fake_quantize_learnable_per_tensor_affine,
        torch._fake_quantize_learnable_per_tensor_affine,
    ):
        scale = SCALE.clone().requires_grad_()
        y = function(torch.randn(5), scale, torch.zeros(1, requires_grad=True), -8, 7)
        (first,) = torch.autograd.grad(y.square().sum(), scale, create_graph=True)
        with pytest.raises(RuntimeError):
            torch.autograd.grad(first.sum(), scale)


@pytest.mark.filterwarnings("ignore:Input #0 requires gradient and is not a double")  # scales are f32
def test_gradcheck_holds_for_a_scale_where_all_is_clamped() -> None:
    x = torch.tensor([500.0, -500.0, 900.0])
    scale, point = torch.tensor([1.5], requires_grad=True), torch.zeros(1)
    function = functional._fake_quantize_learnable_per_tensor_affine
    assert torch.autograd.gradcheck(lambda s: function(x, s, point, -8, 7), scale, eps=1e-2, atol=1e-2)


def test_a_learned_scale_is_transformed_and_compiled() -> None:
    torch._dynamo.reset()
    x = BATCH[0, 0]

    def loss(scale: Tensor, point: Tensor) -> Tensor:
        return functional._fake_quantize_learnable_per_tensor_affine(x, scale, point, -8, 7).square().sum()

    each = [learn(functional._fake_quantize_learnable_per_tensor_affine, x, s, z, -8, 7)[0] for s, z in GRIDS]
    values = vmap(lambda s, z: functional._fake_quantize_learnable_per_tensor_affine(x, s, z, -8, 7))
    same(values(*(torch.stack(column) for column in zip(*GRIDS, strict=True))), torch.stack(each))
    compiled = torch.compile(lambda s, z: grad(loss)(s, z), fullgraph=True, backend="aot_eager")
    for s, z in GRIDS:
        same(compiled(s, z), grad(loss)(s, z))


# Observe and quantize


@pytest.mark.parametrize("per_row", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("switches", [(1, 1), (1, 0), (0, 1), (0, 0)])
@pytest.mark.parametrize("ends", [(0, 255), (-128, 127), (-127, 127), (0, 15)])
@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 30, 100)])  # torch's own operator, and ours
def test_the_fused_function_is_torchs(per_row, symmetric, switches, ends, shape) -> None:
    def fresh() -> list[Tensor]:
        rows = 4 if per_row else 1
        low, high = torch.full((rows,), torch.inf), torch.full((rows,), -torch.inf)
        return [low, high, torch.ones(rows), torch.zeros(rows, dtype=torch.int32)]

    mine, theirs = fresh(), fresh()
    batches = [torch.randn(shape), torch.rand(shape) + 2, -torch.rand(shape), torch.zeros(shape)]
    for on, x in zip([(1, 1), switches, switches, (1, 1)], batches, strict=True):
        flags = [torch.tensor([flag]) for flag in on]
        grid = (0.3, *ends, 0, per_row, symmetric)
        y = functional.fused_moving_avg_obs_fake_quant(x, *flags, *mine, *grid)
        same(y, torch.fused_moving_avg_obs_fake_quant(x, *flags, *theirs, *grid))
        for got, expected in zip(mine, theirs, strict=True):
            same(got, expected)


@pytest.mark.parametrize(("axis", "per_row"), [(3, False), (1, True), (-1, True)])
def test_the_fused_function_complains_in_torchs_words(axis, per_row) -> None:
    state = [torch.ones(1), torch.ones(1), torch.tensor(torch.inf), torch.tensor(-torch.inf), SCALE.clone(), POINT]
    arguments = (torch.randn(2, 3, 4), *state, 0.01, 0, 255, axis, per_row)
    with pytest.raises(RuntimeError) as expected:
        torch.fused_moving_avg_obs_fake_quant(*arguments)
    with pytest.raises(RuntimeError) as got:
        functional.fused_moving_avg_obs_fake_quant(*arguments)
    assert str(got.value) == str(expected.value)


def test_exact_parity_is_torch_even_for_infinity() -> None:
    x = torch.tensor([[torch.inf, -torch.inf, 1e30]] * 2)
    with exact_parity():
        same(channel_affine(x, S, Z, 0, 0, 255), torch.fake_quantize_per_channel_affine(x, S, Z, 0, 0, 255))
    assert channel_affine(x, S, Z, 0, 0, 255)[0].tolist() == pytest.approx([25.5, 0.0, 25.5])

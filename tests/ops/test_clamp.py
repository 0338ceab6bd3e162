"""A ReLU in the pass that quantizes: equal to the ReLU and then the quantizer."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nashquant import ops
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.observer import FixedScaleObserver, MinMaxObserver, MSEObserver

QINT8 = (-128, 127)
CLAMPS = [ops.RELU, ops.RELU6]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def both(x: Tensor, way: object) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of 1, 2, 3, ..."""
    x = x.clone().requires_grad_()
    y = way(x)  # type: ignore[operator]
    y.backward(torch.arange(1, x.numel() + 1, dtype=x.dtype).reshape(x.shape))
    assert x.grad is not None
    return y.detach(), x.grad


def test_a_relu_gives_zero_below_and_keeps_nan():
    x = torch.tensor([-3.0, 0.0, 0.4, 2.5, 9.0, -math.inf, math.inf, math.nan])
    y, grad_x = both(x, lambda x: ops.fake_quantize_per_tensor(x, 1.0, 0, -8, 7, clamp=ops.RELU))
    assert y.tolist() == [0, 0, 0, 2, 7, 0, 7, -8]
    assert grad_x.tolist() == [0, 0, 3, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (7, 300), (2, 3, 5, 7)])
def test_one_pass_equals_two(clamp: ops.Clamp, dtype: torch.dtype, shape: tuple[int, ...]):
    x = (torch.randn(shape) * 4).to(dtype)
    for laid_out in (x, x.mT if x.dim() > 1 else x):
        one = both(laid_out, lambda x: ops.fake_quantize_per_tensor(x, 0.031, 0, *QINT8, clamp=clamp))
        two = both(laid_out, lambda x: ops.fake_quantize_per_tensor(clamp.function(x), 0.031, 0, *QINT8))
        assert all(torch.equal(*pair) for pair in zip(one, two, strict=True))
        assert one[0].stride() == two[0].stride()


@pytest.mark.parametrize("clamp", CLAMPS)
def test_a_compiler_sees_the_two_steps(clamp: ops.Clamp):
    def step(x: Tensor) -> Tensor:
        return ops.fake_quantize_per_tensor(x, 0.5, 0, *QINT8, clamp=clamp)

    x = torch.linspace(-3, 9, 100)
    assert torch.equal(torch.compile(step, fullgraph=True, backend="aot_eager")(x), step(x))


def test_an_exported_graph_has_the_relu_and_one_quantizer():
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = FakeQuantize(FixedScaleObserver, scale=0.5)

        def forward(self, x: Tensor) -> Tensor:
            return self.quantizer(x, ops.RELU)  # type: ignore[no-any-return]

    graph = torch.export.export(Net().eval(), (torch.ones(3),)).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert called == ["aten.relu.default", "nashquant.fake_quantize_per_tensor.tensor"]


@pytest.mark.filterwarnings("ignore:eval")
@pytest.mark.parametrize("clamp", CLAMPS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("observer", [MinMaxObserver, MSEObserver, FixedScaleObserver])
@pytest.mark.parametrize("states", [(True, True), (True, False), (False, True), (False, False)])
def test_a_quantizer_does_the_same_in_every_state(
    clamp: ops.Clamp, training: bool, observer: type[MinMaxObserver], states: tuple[bool, bool]
):
    given = {"scale": 0.03} if observer is FixedScaleObserver else {}
    one, two = (FakeQuantize(observer, **given).train(training) for _ in range(2))
    for quantizer in (one, two):
        quantizer.set_qparams(0.02)
        quantizer.enable_observer(states[0])
        quantizer.enable_fake_quant(states[1])
    for _ in range(3):
        x = torch.randn(300) * 5
        of_one, of_two = both(x, lambda x: one(x, clamp)), both(x, lambda x: two(clamp.function(x)))
        assert all(torch.equal(*pair) for pair in zip(of_one, of_two, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))


@pytest.mark.parametrize("x", [[math.nan, 1.0], [math.inf, 1.0]])
def test_what_the_relu_lets_through_is_refused(x: list[float]):
    with pytest.raises(ValueError, match="x has 1 NaN or infinite values among 2"):
        FakeQuantize(MinMaxObserver)(torch.tensor(x), ops.RELU)


def test_what_the_relu_takes_away_is_not_refused():
    quantizer = FakeQuantize(MinMaxObserver)
    assert quantizer(torch.tensor([-math.inf, 127.5]), ops.RELU).tolist() == [0, 127]
    assert quantizer.scale.item() == 1


def test_an_infinite_gradient_is_multiplied_by_the_mask():
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    ops.fake_quantize_per_tensor(x, 1.0, 0, *QINT8, clamp=ops.RELU).backward(torch.tensor([math.inf, math.inf]))
    assert x.grad is not None
    assert x.grad[0].isnan()  # where torch's relu gives 0: numerics.md
    assert x.grad[1] == math.inf

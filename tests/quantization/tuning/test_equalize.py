"""Cross-layer equalization: the same function, better weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from nashquant import march, set_march
from nashquant.quantization import DeQuantStub, QuantStub, equalize

from .nets import Net, calibrated, error, images, net


@pytest.fixture(autouse=True)
def _a_march() -> None:
    set_march("nash-m")


def badly_scaled() -> Net:
    """The same function, with channels that differ by four orders of magnitude."""
    model = net()
    with torch.no_grad():
        s = torch.logspace(-2, 2, 8)
        model.norm.weight.mul_(s)
        model.norm.bias.mul_(s)
        model.depthwise.weight.div_(s.reshape(-1, 1, 1, 1))
        s = torch.logspace(2, -2, 8)
        model.depthwise.weight.mul_(s.reshape(-1, 1, 1, 1))
        model.depthwise.bias.mul_(s)
        model.pointwise.weight.div_(s.reshape(-1, 1, 1))
    return model


def test_it_rescues_a_net_with_badly_scaled_channels() -> None:
    good, bad, data, held_out = net(), badly_scaled(), images(4), images(2, seed=2)
    before = copy.deepcopy(bad.state_dict())
    equal = equalize(bad, data[0])
    assert all(torch.equal(value, before[name]) for name, value in bad.state_dict().items())
    assert torch.allclose(equal(data[0]), bad(data[0]), atol=1e-5)
    lost, rescued = (error(calibrated(model, data), good, held_out) for model in (bad, equal))
    assert rescued < lost / 100
    assert rescued < 3 * error(calibrated(good, data), good, held_out)


def channels_meet(first: Tensor, second: Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-2)


def test_neighbours_end_with_equal_ranges_in_each_channel() -> None:
    equal = equalize(badly_scaled(), images(1)[0])
    fold = equal.norm.weight * (equal.norm.running_var + equal.norm.eps).rsqrt()
    full = equal.full.weight.abs().amax((1, 2, 3)) * fold.abs()
    depthwise = equal.depthwise.weight.abs().amax((1, 2, 3))
    assert channels_meet(full, depthwise)
    assert channels_meet(depthwise, equal.pointwise.weight.abs().amax((0, 2, 3)))
    assert channels_meet(equal.pointwise.weight.abs().amax((1, 2, 3)), equal.head.weight.abs().amax(0))


class Chain(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.layers(self.quant(x)))


CHAINS: dict[str, tuple[nn.Module, ...]] = {
    "transposed": (nn.ConvTranspose2d(3, 8, 3), nn.LeakyReLU(0.1), nn.ConvTranspose2d(8, 4, 3)),
    "grouped": (nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 6, 1, groups=2)),
    "transposed groups": (nn.ConvTranspose1d(3, 8, 2), nn.PReLU(8), nn.ConvTranspose1d(8, 8, 2, groups=2)),
    "channels last": (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(), nn.Conv2d(8, 8, 3)),
}


@pytest.mark.parametrize("layers", CHAINS.values(), ids=CHAINS)
def test_every_kind_of_layer_keeps_its_function(layers: tuple[nn.Module, ...]) -> None:
    model, x = Chain(*copy.deepcopy(layers)).eval(), torch.randn(2, 3, 8, 8)
    if isinstance(layers[0], nn.ConvTranspose1d):
        x = x[..., 0]
    else:
        model.to(memory_format=torch.channels_last)
    equal = equalize(model, x)
    assert torch.allclose(equal(x), model(x), atol=1e-5)
    assert not torch.equal(equal.layers[0].weight, model.layers[0].weight)
    assert not torch.equal(equal.layers[-1].weight, model.layers[-1].weight)


def test_a_channel_of_zeros_stays() -> None:
    model, x = Chain(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.randn(5, 3)
    with torch.no_grad():
        model.layers[0].weight[1] = 0
        model.layers[2].weight[:, 2] = 0
    equal = equalize(model, x)
    assert torch.allclose(equal(x), model(x), atol=1e-6)
    assert all(value.isfinite().all() for value in equal.state_dict().values())


# High biases


def high(*, padding: int = 0, bias: bool = True, norm: bool = False, between: nn.Module | None = None) -> Chain:
    """Half of the channels lie forty deviations above 0. The batch norm knows what it sees of `images`."""
    torch.manual_seed(0)
    last = (nn.Conv2d(8, 4, 3, padding=padding, bias=bias), *((nn.BatchNorm2d(4),) if norm else ()))
    model = Chain(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8, momentum=None), between or nn.ReLU(), *last)
    with torch.no_grad():
        model.layers[1].weight.fill_(0.5)
        model.layers[1].bias.copy_(torch.tensor([0.0, 20.0] * 4))
        for x in images(8):
            model.train()(x)
    return model.eval()


def test_absorbing_biases_leaves_activations_no_range_without_values() -> None:
    model, data, held_out = high(), images(4), images(2, seed=2)
    equal, absorbed = equalize(model, data[0]), equalize(model, data[0], absorb_biases=True)
    assert error(absorbed, model, held_out) < 1e-3  # the function changes, one value in 700
    lost, rescued = (error(calibrated(made, data), model, held_out) for made in (equal, absorbed))
    assert rescued < lost / 2


@pytest.mark.parametrize("kind", [{}, {"bias": False}, {"bias": False, "norm": True}, {"norm": True}])
def test_what_is_absorbed_comes_back_in_the_next_layer(kind: dict[str, bool]) -> None:
    model = high(between=nn.Identity(), **kind)  # nothing is cut off: the same function
    x = images(1)[0]
    absorbed = equalize(model, x, absorb_biases=True)
    assert torch.allclose(absorbed(x), model(x), atol=1e-4)
    scale = absorbed.layers[1].weight / model.layers[1].weight
    assert torch.allclose(absorbed.layers[1].bias, torch.tensor([0.0, 1.5] * 4) * scale, atol=1e-4)


def test_a_low_channel_stays_and_so_does_one_whose_reader_pads() -> None:
    x = images(1)[0]
    for model in (high(padding=1), high(between=nn.AvgPool2d(2, padding=1))):
        plain, absorbed = equalize(model, x), equalize(model, x, absorb_biases=True)
        assert all(torch.equal(value, plain.state_dict()[name]) for name, value in absorbed.state_dict().items())
    transposed = Chain(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.ConvTranspose2d(8, 4, 3)).eval()
    nn.init.constant_(transposed.layers[1].bias, 9.0)
    assert torch.allclose(equalize(transposed, x, absorb_biases=True)(x), transposed(x), atol=1e-5)


class Twice(nn.Module):
    """`first` is read twice, `third` reads a sum, `shared` runs twice, `tied` shares a weight, `cut` feeds a ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.first, self.second, self.third, self.shared = (nn.Linear(4, 4) for _ in range(4))
        self.tied, self.tie, self.cut, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.tie.weight = self.tied.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.quant(x)).relu()
        x = self.third(self.second(x) + x).sigmoid()
        x = self.shared(self.shared(x).relu())
        x = self.tie(self.tied(x.sigmoid()).relu())
        return self.dequant(self.last(nn.functional.relu6(self.cut(x.sigmoid()))))


def test_what_would_change_the_function_is_left() -> None:
    model, x = Twice().eval(), torch.randn(5, 4)
    equal = equalize(model, x)
    for (name, value), (_, other) in zip(model.state_dict().items(), equal.state_dict().items(), strict=True):
        assert torch.equal(value, other), name


# As many output channels as the next layer has input channels, and yet not the same ones.
ACROSS: dict[str, tuple[nn.Module, ...]] = {
    "a linear and a conv": (nn.Linear(8, 8), nn.ReLU(), nn.Conv2d(8, 4, 1)),
    "a conv and a linear": (nn.Conv2d(8, 64, 1), nn.Flatten(2), nn.Linear(64, 4)),
    "a pool over a linear's features": (nn.Flatten(2), nn.Linear(64, 8), nn.AvgPool1d(3, 1, 1), nn.Linear(8, 4)),
    "channels in the batch": (nn.Conv2d(8, 8, 1), nn.Flatten(0, 1), nn.Conv1d(8, 4, 1)),
}


@pytest.mark.parametrize("layers", ACROSS.values(), ids=ACROSS)
def test_channels_on_another_axis_do_not_meet(layers: tuple[nn.Module, ...]) -> None:
    model, x = Chain(*copy.deepcopy(layers)).eval(), torch.randn(2, 8, 8, 8)
    equal = equalize(model, x)
    for (name, value), (_, other) in zip(model.state_dict().items(), equal.state_dict().items(), strict=True):
        assert torch.equal(value, other), name


def test_channels_that_change_their_axis_still_meet() -> None:
    model, x = Chain(nn.Linear(8, 8), nn.Flatten(0, 2), nn.Linear(8, 4)).eval(), torch.randn(2, 3, 5, 8)
    equal = equalize(model, x)
    assert torch.allclose(equal(x), model(x), atol=1e-6)
    assert not torch.equal(equal.layers[0].weight, model.layers[0].weight)


class Reads(Chain):
    """Adds what it computes from a weight, behind the stubs."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + nn.functional.linear(x, self.layers[0].weight).sum()


def test_a_weight_that_a_float_function_reads_is_left() -> None:
    model, x = Reads(nn.Linear(4, 4), nn.Linear(4, 2)).eval(), torch.randn(3, 4)
    equal = equalize(model, x)
    assert torch.equal(equal.layers[0].weight, model.layers[0].weight)
    assert torch.equal(equal(x), model(x))


class Branch(Chain):
    """Layer 2 is also read by the last one, on a way that depends on the data."""

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        y = first(self.quant(x)).relu()
        return self.dequant(last(second(y) + y if bool(x.sum() > 0) else second(y)))


def test_a_branch_that_is_shown_is_seen() -> None:
    model = Branch(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    up = torch.rand(3, 4)
    equal = equalize(model, -up, more_example_inputs=[up])
    for x in (up, -up):
        assert torch.allclose(equal(x), model(x), atol=1e-6)
    assert torch.equal(equal.layers[0].weight, model.layers[0].weight)


def test_it_needs_a_march_and_a_model_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="fails on the example inputs"):
        equalize(net(), torch.randn(2, 2))
    monkeypatch.setattr(march, "_current", None)
    with pytest.raises(RuntimeError, match="equalize needs to know the chip"):
        equalize(net(), images(1)[0])

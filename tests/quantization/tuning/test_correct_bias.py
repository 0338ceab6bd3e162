"""Bias correction: the mean of each channel comes back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nashquant.quantization import correct_bias
from nashquant.quantization.tuning.batches import Batch, float_twin
from nashquant.quantization.tuning.layers import outputs_of

from .nets import calibrated, error, images, net

LAYERS = ("full", "depthwise", "pointwise", "head")


def shift(model: nn.Module, name: str, data: list[Tensor]) -> Tensor:
    """Of the mean of each channel of a layer, against the model before anything was quantized."""
    batches = [Batch((x,), {}) for x in data]
    reference = calibrated(net(), images(4), 4)
    twin = float_twin(reference)
    axis = -1 if name == "head" else 1
    means = [
        torch.cat([y.movedim(axis, 0).flatten(1) for y in outputs_of(m, m.get_submodule(name), batches)], 1).mean(1)
        for m in (model, twin)
    ]
    return (means[0] - means[1]).abs().max()


def test_it_takes_the_shift_out_of_every_layer_and_the_error_down() -> None:
    data, held_out = images(4), images(4, seed=2)
    model = calibrated(net(), data, 4)
    before = {name: shift(model, name, held_out) for name in LAYERS}
    lost = error(model, net(), held_out)
    taken = correct_bias(model, data, show_progress=False)
    assert tuple(taken) == LAYERS
    for name in LAYERS:
        assert shift(model, name, data) < 1e-4
        assert shift(model, name, held_out) < max(0.5 * before[name], 5e-3), name
    assert error(model, net(), held_out) < lost / 3


def test_a_layer_without_a_bias_is_left() -> None:
    model = net()
    model.pointwise.bias = None
    data = images(2)
    made = calibrated(model, data, 4)
    assert list(correct_bias(made, data, num_batches=1, show_progress=False)) == ["full", "depthwise", "head"]
    assert made.pointwise.bias is None


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"correct_bias: num_batches is 0, expected a whole number of at least 1"):
        correct_bias(calibrated(net(), images(1)), images(1), num_batches=0)

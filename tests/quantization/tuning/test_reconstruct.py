"""AdaRound beats rounding to the nearest."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from nashquant.quantization import correct_bias, set_fake_quantize, weight_reconstruction
from nashquant.quantization.tuning.reconstruct import _Rounding

from .nets import calibrated, error, images, net, prepared

QUICK = {"num_batches": 4, "num_steps": 40}


@pytest.mark.parametrize(("bits", "gain"), [(4, 1.5), (8, 1.0)])
def test_it_beats_rounding_to_the_nearest_on_data_it_did_not_see(bits: int, gain: float) -> None:
    data, held_out = images(4), images(4, seed=2)
    model = calibrated(net(), data, bits)
    nearest = error(model, net(), held_out)
    result = weight_reconstruction(model, data, custom_config_dict=QUICK, show_progress=False)
    assert list(result) == ["full", "depthwise", "pointwise", "head"]
    assert all(each.learned <= each.nearest for each in result.values())
    assert error(model, net(), held_out) < nearest / gain


def test_each_weight_moves_to_one_of_its_two_neighbours_on_the_grid() -> None:
    data = images(2)
    model = calibrated(net(), data, 4)
    before = {name: model.get_submodule(name).weight.detach().clone() for name in ("full", "head")}
    scales = {name: model.get_submodule(name).weight_fake_quant.scale.clone() for name in before}
    weight_reconstruction(model, data, custom_config_dict={"num_steps": 60, "num_batches": 2}, show_progress=False)
    for name, weight in before.items():
        layer = model.get_submodule(name)
        scale = scales[name].reshape(-1, *[1] * (weight.dim() - 1))
        assert torch.equal(layer.weight_fake_quant.scale, scales[name])
        assert torch.equal(layer.quantized_weight(), layer.weight)
        steps = weight / scale
        low, high = (end.clamp(-8, 7) * scale for end in (steps.floor(), steps.floor() + 1))
        assert ((layer.weight == low) | (layer.weight == high)).all()
    layer, scale = model.full, scales["full"].reshape(-1, 1, 1, 1)
    assert not torch.equal(layer.weight, (before["full"] / scale).round().clamp(-8, 7) * scale)


@pytest.mark.parametrize(("weight", "decided"), [(0.0, False), (1.0, True)])
def test_what_is_learned_is_pushed_to_one_of_the_two_ways(weight: float, decided: bool) -> None:
    torch.manual_seed(0)
    layer = calibrated(net(), images(1), 4).head
    rounding, x = _Rounding(layer), torch.randn(64, 12)
    wanted = x @ layer.weight.detach().T
    config = {"num_steps": 600, "warm_up": 0.2, "weight": weight, "b_range": [20, 2]}
    rounding.learn(lambda rounded, args: args[0] @ rounded.T, [(x,)], [wanted], config)
    h = (torch.sigmoid(rounding.v.detach()) * 1.2 - 0.1).clamp(0, 1)
    at_an_end = ((h < 0.02) | (h > 0.98)).float().mean().item()
    assert (at_an_end > 0.9) == decided, at_an_end


def test_layers_can_be_left_out_and_batches_made_into_arguments() -> None:
    data = images(2)
    model = calibrated(net(), data, 4)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    labelled = [{"image": x, "label": 0} for x in data]
    config = {"num_steps": 5, "num_batches": 5, "exclude_prefix": ["full", "point", "head"]}
    result = weight_reconstruction(model, labelled, lambda b: (b["image"],), config, show_progress=False)
    assert list(result) == ["depthwise"]
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, state[name])}
    assert changed <= {"depthwise.weight"}


def test_what_is_left_can_be_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from nashquant.quantization.hbdk4 import export

    data = images(2)
    model = calibrated(net(), data)
    weight_reconstruction(model, data, custom_config_dict={"num_steps": 10, "num_batches": 2}, show_progress=False)
    export(model, data[0], path=tmp_path / "net.onnx", verify=True)


def test_mistakes_are_answered_before_anything_changes() -> None:
    data = images(1)
    model = calibrated(net(), data)
    set_fake_quantize(model, "float")
    for config, message in (
        ({"steps": 3}, "the config has 'steps'; it takes num_batches, num_steps, exclude_prefix"),
        ({"num_steps": 0}, "num_steps is 0, expected a whole number of at least 1"),
        ({"warm_up": 2}, "warm_up is 2, expected a share from 0 to 1"),
        ({"warm_up": "half"}, "warm_up is 'half', expected a share from 0 to 1"),
        ({"weight": -1}, "weight is -1, expected a number of at least 0"),
        ({"b_range": 20}, "b_range is 20, expected two numbers above 0"),
        ({"b_range": [20, 2, 1]}, r"b_range is \[20, 2, 1\], expected two numbers above 0"),
        ({"exclude_prefix": "head"}, "exclude_prefix is 'head', expected a list of names"),
    ):
        with pytest.raises(ValueError, match=message):
            weight_reconstruction(model, data, custom_config_dict=config)
    with pytest.raises(ValueError, match="weight_reconstruction: there are no batches"):
        weight_reconstruction(model, [])
    with pytest.raises(ValueError, match=r"weight_reconstruction takes what prepare\(\) returns; this Linear has no"):
        weight_reconstruction(nn.Linear(2, 2), data)
    assert not bool(model.full.weight_fake_quant.fake_quant_enabled)


def test_a_model_that_was_never_calibrated_is_refused_as_it_is() -> None:
    model, data = prepared(net()), images(1)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r"weight_reconstruction takes a calibrated model, but no weight of this Net"):
        weight_reconstruction(model, data, show_progress=False)
    with pytest.raises(ValueError, match=r"correct_bias takes a calibrated model, but no weight of this Net"):
        correct_bias(model, data, show_progress=False)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

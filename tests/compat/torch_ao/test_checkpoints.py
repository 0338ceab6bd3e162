"""Checkpoints go from torch.ao to us and back, of every version, and through every way of saving."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

from nashquant.compat import torch_ao
from nashquant.compat.torch_ao import exact_parity

pytestmark = pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max")

KINDS = [
    ("FakeQuantize", {}),
    ("FakeQuantize", {"observer": "PerChannelMinMaxObserver", "qscheme": torch.per_channel_symmetric}),
    ("FakeQuantize", {"observer": "PerChannelMinMaxObserver", "qscheme": torch.per_channel_affine_float_qparams}),
    ("FakeQuantize", {"observer": "HistogramObserver", "bins": 32}),
    ("FusedMovingAvgObsFakeQuantize", {}),
    (
        "FusedMovingAvgObsFakeQuantize",
        {
            "observer": "MovingAveragePerChannelMinMaxObserver",
            "qscheme": torch.per_channel_symmetric,
            "quant_min": -128,
            "quant_max": 127,
            "dtype": torch.qint8,
        },
    ),
]
X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1)) * 4


@pytest.mark.parametrize(("name", "arguments"), KINDS)
@pytest.mark.parametrize("ours_first", [True, False])
def test_each_loads_the_others(name, arguments, ours_first, pair, assert_same_state) -> None:
    theirs, mine = pair(name, **arguments)
    source, target = (mine, theirs) if ours_first else (theirs, mine)
    source(X)
    source.disable_observer()
    assert not target.load_state_dict(source.state_dict()).missing_keys
    assert_same_state(theirs, mine)
    assert torch.equal(mine(X * 2), theirs(X * 2))
    assert_same_state(theirs, mine)


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_versions_are_torch_aos(name, arguments, pair) -> None:
    theirs, mine = pair(name, **arguments)
    assert mine.state_dict()._metadata == theirs.state_dict()._metadata


@pytest.mark.parametrize("name", ["PerChannelMinMaxObserver", "MovingAveragePerChannelMinMaxObserver"])
@pytest.mark.parametrize("version", [1, 2])
def test_the_old_names_of_a_range_per_channel_are_read(name, version) -> None:
    source = getattr(torch_ao, name)()
    source(X)
    state = source.state_dict()
    state["min_vals"], state["max_vals"] = state.pop("min_val"), state.pop("max_val")
    if version == 1:
        del state["eps"]
    state._metadata[""]["version"] = version
    target = getattr(torch_ao, name)()
    target.load_state_dict(state)
    assert torch.equal(target.min_val, source.min_val)
    assert torch.equal(target.max_val, source.max_val)


@pytest.mark.parametrize("name", ["MinMaxObserver", "MovingAverageMinMaxObserver", "HistogramObserver"])
def test_version_1_has_no_eps(name, pair) -> None:
    theirs, mine = pair(name)
    for observer in (theirs, mine):
        state = observer.state_dict()
        del state["eps"]
        state._metadata[""]["version"] = 1
        observer.load_state_dict(state)
    assert torch.equal(mine.eps, theirs.eps)


def test_the_empty_range_of_an_old_histogram_is_read() -> None:
    target = torch_ao.HistogramObserver(bins=4)
    state = target.state_dict()
    state["min_val"], state["max_val"] = torch.tensor([]), torch.tensor([])
    state._metadata[""]["version"] = 2
    target(torch.ones(3))
    target.load_state_dict(state)
    assert (float(target.min_val), float(target.max_val)) == (torch.inf, -torch.inf)


def test_a_number_and_a_list_of_one_number_load_into_each_other() -> None:
    for shape in ((), (1,)):
        target = torch_ao.FakeQuantize()
        state = target.state_dict()
        for key in ("scale", "zero_point", "activation_post_process.min_val", "activation_post_process.max_val"):
            state[key] = torch.full(shape, 2, dtype=state[key].dtype)
        target.load_state_dict(state)
        assert target.scale.tolist() == [2.0]
        assert target.activation_post_process.min_val.shape == ()
        assert float(target.activation_post_process.min_val) == 2
        fixed = torch_ao.FixedQParamsObserver(scale=0.5, zero_point=3)
        fixed.load_state_dict({"scale": torch.full(shape, 0.25), "zero_point": torch.full(shape, 1)})
        assert (fixed.scale.tolist(), fixed.zero_point.tolist()) == ([0.25], [1])


def test_in_exact_parity_a_number_is_no_list_of_one(pair) -> None:
    theirs, mine = pair("FixedQParamsObserver", scale=0.5, zero_point=3)
    number = {"scale": torch.tensor(0.25), "zero_point": torch.tensor(1)}
    with exact_parity():
        for fixed in (theirs, mine):
            with pytest.raises(RuntimeError, match="size mismatch for scale"):
                fixed.load_state_dict(number)
    mine.load_state_dict(number)
    assert mine.scale.tolist() == [0.25]


def test_in_exact_parity_a_scale_that_is_a_number_stays_one(pair) -> None:
    theirs, mine = pair("FakeQuantize")
    with exact_parity():
        for quantizer in (theirs, mine):
            state = quantizer.state_dict()
            state["scale"], state["zero_point"] = torch.tensor(2.0), torch.tensor(1, dtype=torch.int32)
            quantizer.load_state_dict(state)
    assert theirs.scale.shape == mine.scale.shape == ()


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_a_missing_scale_is_named(name, arguments, pair) -> None:
    for module in pair(name, **arguments):
        state = module.state_dict()
        del state["scale"]
        with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "scale"'):
            module.load_state_dict(state)


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_files_load_with_weights_only(name, arguments, pair, assert_same_state) -> None:
    _, source = pair(name, **arguments)
    source(X)
    file = io.BytesIO()
    torch.save(source.state_dict(), file)
    file.seek(0)
    _, target = pair(name, **arguments)
    target.load_state_dict(torch.load(file, weights_only=True))
    assert_same_state(source, target)


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_safetensors_hold_all_of_it(name, arguments, pair, assert_same_state, tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    theirs, mine = pair(name, **arguments)
    mine(X)
    mine.disable_observer()
    safetensors.save_file(mine.state_dict(), tmp_path / "quantizer.safetensors")
    state = safetensors.load_file(tmp_path / "quantizer.safetensors")
    for target in (theirs, pair(name, **arguments)[1]):
        target.load_state_dict(state)
        assert torch.equal(target(X * 2), mine(X * 2))
        assert_same_state(target, mine)


@pytest.mark.parametrize("assign", [True, False])
@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_a_quantizer_from_meta_takes_a_checkpoint(name, arguments, assign, pair, assert_same_state) -> None:
    (_, source), (_, target) = pair(name, **arguments), pair(name, **arguments)
    source(X)
    target = target.to("meta") if assign else target.to("meta").to_empty(device="cpu")
    target.load_state_dict(copy.deepcopy(source.state_dict()), assign=assign)  # assigned tensors are shared
    assert torch.equal(target(X * 2), source(X * 2))
    assert_same_state(source, target)


def test_a_loaded_switch_is_obeyed_at_once() -> None:
    source, target = torch_ao.FakeQuantize(), torch_ao.FakeQuantize()
    source.disable_fake_quant()
    target.load_state_dict(source.state_dict())
    assert target(X) is X


def test_the_state_of_observers_alone_goes_from_model_to_model(assert_same_state) -> None:
    def model() -> nn.Module:
        torch.manual_seed(0)
        made: Any = nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        for layer, kind in zip(made, ("PerChannelMinMaxObserver", "HistogramObserver"), strict=True):
            layer.add_module("activation_post_process", getattr(torch_ao, kind)())
        return made

    source, target = model(), model()
    for layer in source:
        layer.activation_post_process(X)
    state = torch_ao.get_observer_state_dict(source)
    assert all("activation_post_process" in key for key in state)
    torch_ao.load_observer_state_dict(target, state)
    assert_same_state(source, target)
    state["1.activation_post_process.histogram"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match=r"size mismatch for 1\.activation_post_process\.histogram"):
        torch_ao.load_observer_state_dict(target, state)

"""auto_calibrate: never worse than the best observer alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nashquant.quantization import DeQuantStub, QuantStub, auto_calibrate, set_fake_quantize, weight_reconstruction
from nashquant.quantization.observer import FixedScaleObserver, KLObserver, MinMaxObserver, MSEObserver
from nashquant.quantization.qconfig import QConfig
from nashquant.quantization.tuning.auto_calibrate import _observed

from .nets import Batch, calibrated, error, images, net, prepared


def with_outliers(count: int) -> list[torch.Tensor]:
    """One pixel in a thousand is forty times as bright."""
    data = images(count)
    for x in data:
        x.view(-1)[::997] *= 40
    return data


def test_it_is_at_least_as_good_as_every_observer_alone() -> None:
    data = with_outliers(4)
    model = prepared(net())
    chosen = auto_calibrate(model, data, num_batches=4, percentile_list=[99.0, 99.9], show_progress=False)
    best = error(model, net(), data)
    alone = {}
    for name in ("percentile(99)", "percentile(99.9)", "mse", "kl", "min_max"):
        single = prepared(net())
        only, _, value = name.partition("(")
        percentiles = [float(value[:-1])] if value else None
        auto_calibrate(single, data, 4, None, [only], percentiles, show_progress=False)
        alone[name] = error(single, net(), data)
    assert best < 0.95 * min(alone.values())  # since not all activations got the same one
    assert set(chosen.values()) <= alone.keys()
    assert len(chosen) == 6
    assert not any(name.endswith("weight_fake_quant") for name in chosen)


class Twice(nn.Module):
    """One activation that is far larger when it comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant, self.act = QuantStub(), DeQuantStub(), nn.Hardtanh(-99, 99)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.quant(x))
        return self.dequant(self.act(x * 0.25))


def test_the_range_of_a_module_called_twice_is_the_mean_over_all_its_calls() -> None:
    model = prepared(Twice().eval())
    auto_calibrate(model, [torch.tensor([8.0, -4.0])] * 2, observer_list=["min_max"], show_progress=False)
    observer = model.get_submodule("act.activation_post_process.activation_post_process")
    assert (observer.min_val.item(), observer.max_val.item()) == (-2.5, 5.0)


@pytest.mark.parametrize(("name", "observer"), [("mse", MSEObserver), ("min_max", MinMaxObserver), ("kl", KLObserver)])
def test_an_observer_alone_gives_the_scales_of_its_mean_over_the_batches(name: str, observer: type) -> None:
    data = images(1)
    model = prepared(net())
    auto_calibrate(model, data, observer_list=[name], show_progress=False)
    expected = calibrated(net(), data, observer=observer)
    for path, module in expected.named_modules():
        if path.endswith("activation_post_process") and hasattr(module, "scale"):
            assert torch.equal(model.get_submodule(path).scale, module.scale), path


def test_the_averages_are_means_of_all_batches() -> None:
    data = images(3)
    model = prepared(net())
    ranges = _observed(model, [Batch((x,), {}) for x in data], {"min_max": {"observer": MinMaxObserver}}, False)
    low, high = ranges["quant.activation_post_process"]["min_max"]
    assert low.item() == pytest.approx(torch.stack([x.min() for x in data]).mean().item())
    assert high.item() == pytest.approx(torch.stack([x.max() for x in data]).mean().item())


def test_weights_are_calibrated_and_fixed_scales_stay() -> None:
    model = prepared(net())
    made = calibrated(net(), images(1))
    fixed = QConfig(output=made.quant.activation_post_process.with_args(observer=FixedScaleObserver, scale=0.25)).output
    model.quant.activation_post_process = fixed()
    chosen = auto_calibrate(model, images(2), show_progress=False)
    assert "quant.activation_post_process" not in chosen
    assert model.quant.activation_post_process.scale.item() == 0.25
    assert torch.equal(model.full.weight_fake_quant.scale, made.full.weight_fake_quant.scale)
    assert not any(module.training for module in model.modules())
    assert model(images(1)[0]).shape == (8, 5)


def test_weights_that_were_rounded_keep_their_scales() -> None:
    data = images(2)
    model = calibrated(net(), data, 4)
    weight_reconstruction(model, data, custom_config_dict={"num_steps": 20, "num_batches": 2}, show_progress=False)
    before = {name: value.clone() for name, value in model.state_dict().items() if "weight" in name}
    auto_calibrate(model, data, observer_list=["mse"], show_progress=False)
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items() if not name.endswith("_enabled"))


def test_batches_become_arguments() -> None:
    model = prepared(net())
    labelled = [(x, "label") for x in images(2)]
    auto_calibrate(model, labelled, 2, lambda batch: {"x": batch[0]}, ["min_max"], show_progress=False)
    assert model.quant.activation_post_process.has_scale


def test_progress_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    auto_calibrate(prepared(net()), images(2), observer_list=["min_max"])
    told = capsys.readouterr().err
    assert "observing: 1 of 2\nobserving: 2 of 2\n" in told
    assert "one by one: 6 of 6" in told


def test_mistakes_are_answered_before_anything_changes() -> None:
    model = prepared(net())
    set_fake_quantize(model, "float")
    with pytest.raises(ValueError, match="expected some of 'percentile', 'mse', 'kl', 'min_max', 'mix', 'histogram'"):
        auto_calibrate(model, images(1), observer_list=["max"])
    with pytest.raises(ValueError, match=r"percentile is 0\.99, expected percent"):
        auto_calibrate(model, images(1), percentile_list=[0.99])
    with pytest.raises(ValueError, match="auto_calibrate: there are no batches"):
        auto_calibrate(model, [])
    assert not bool(model.quant.activation_post_process.observer_enabled)
    assert not model.quant.activation_post_process.has_scale

"""Several processes calibrate and train as one: the same scales, bit for bit, whatever the observer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import in_processes
from torch import Tensor, nn

from nashquant.dtype import qint8, qint16
from nashquant.quantization import FakeQuantize, set_fake_quantize, synchronize_observers
from nashquant.quantization.observer import (
    ClipObserver,
    ClipStdObserver,
    HistogramObserver,
    KLObserver,
    MinMaxObserver,
    MixObserver,
    MSEObserver,
    ObserverBase,
    PercentileObserver,
)
from nashquant.quantization.qconfig import get_default_qconfig
from nashquant.quantization.qconfig_template import TemplateQconfigSetter, default_calibration_qconfig_setter

from .small_net import images, in_training, prepared, scales

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="forks"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of fork
]
PER_CHANNEL = {"qscheme": torch.per_channel_symmetric, "ch_axis": 1, "channel_len": 3}
OBSERVERS: dict[str, tuple[type[ObserverBase], dict[str, Any]]] = {
    "min and max": (MinMaxObserver, {}),
    "min and max per channel": (MinMaxObserver, PER_CHANNEL),
    "current min and max": (MinMaxObserver, {"averaging_constant": 1.0}),
    "mse": (MSEObserver, {}),
    "mse per channel": (MSEObserver, {"stride": 7, **PER_CHANNEL}),
    "mse of powers": (MSEObserver, {"pow_quantization": True}),
    "histogram, mse": (HistogramObserver, {}),
    "histogram, mse per channel": (HistogramObserver, {"bins": 64, **PER_CHANNEL}),
    "histogram, percentile": (HistogramObserver, {"method": "percentile", "method_kwargs": {"percentile": 0.99}}),
    "percentile": (PercentileObserver, {"percentile": 99}),
    "percentile per channel": (PercentileObserver, PER_CHANNEL),
    "kl": (KLObserver, {"update_interval": 2}),
    "kl per channel": (KLObserver, PER_CHANNEL),
    "mix": (MixObserver, {}),
    "clip": (ClipObserver, {"xmin": -3.0, "xmax": 2.0}),
    "clip std per channel": (ClipStdObserver, {"std_scale": 1.5, **PER_CHANNEL}),
    "mix of int16": (MixObserver, {"dtype": qint16}),
}
STEPS = 5


def batch(step: int) -> Tensor:
    """Of a normal distribution with outliers, wider from step to step; the last step shows nothing to anyone."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(240, 3, generator=generator) * torch.tensor([0.5, 1.0, 4.0]) * (step + 1)
    x[step] *= 20
    return x[:0] if step == STEPS - 1 else x


def share(step: int, rank: int, ranks: int) -> Tensor:
    """What one process sees: nearly as much as the others, and once nothing."""
    if step == 2:
        return batch(step) if rank == 0 else batch(step)[:0]
    return batch(step)[rank::ranks]


def everything_of(observer: ObserverBase) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in observer.named_buffers()}


@pytest.mark.parametrize("ranks", [2, 4])
def test_each_observer_sees_what_one_process_would_see(ranks: int, tmp_path: Path) -> None:
    def work(rank: int) -> dict[str, dict[str, Tensor]]:
        seen = {}
        for name, (kind, arguments) in OBSERVERS.items():
            observer = kind(is_sync_quantize=True, **{"averaging_constant": 0.3, **arguments})
            for step in range(STEPS):
                observer(share(step, rank, ranks))
            seen[name] = everything_of(observer)
        return seen

    of_all = in_processes(work, tmp_path, ranks)
    for name, (kind, arguments) in OBSERVERS.items():
        alone = kind(**{"averaging_constant": 0.3, **arguments})
        for step in range(STEPS):
            alone(batch(step))
        expected = everything_of(alone)
        for seen in of_all:
            assert seen[name].keys() == expected.keys()
            for key, value in expected.items():
                assert torch.equal(seen[name][key], value), (name, key)


def test_what_one_process_must_not_see_stops_all_of_them(tmp_path: Path) -> None:
    def work(rank: int) -> list[str]:
        said = []
        for name, (kind, arguments) in OBSERVERS.items():
            observer = kind(is_sync_quantize=True, **arguments)
            observer.name = name
            observer(share(0, rank, 2))
            before = everything_of(observer)
            bad = share(1, rank, 2)
            if rank == 1:
                bad[0, 0] = torch.nan
            with pytest.raises(ValueError, match=r"NaN or infinite values") as error:
                observer(bad)
            said.append(str(error.value))
            assert all(torch.equal(value, before[key]) for key, value in everything_of(observer).items())
        return said

    others, own = in_processes(work, tmp_path)
    assert others[0] == "x of another process has NaN or infinite values (while observing 'min and max')"
    assert own[0] == "x has 1 NaN or infinite values among 360, expected none (while observing 'min and max')"


def test_a_quantizer_per_process_has_the_scale_of_one(tmp_path: Path) -> None:
    def work(rank: int) -> dict[str, Tensor]:
        quantizer = FakeQuantize(is_sync_quantize=True, dtype=qint8)
        for step in range(STEPS):
            quantizer(share(step, rank, 2))
        return quantizer.state_dict()

    alone = FakeQuantize()
    for step in range(STEPS):
        alone(batch(step))
    for state in in_processes(work, tmp_path):
        assert all(torch.equal(state[key], value) for key, value in alone.state_dict().items())


def test_one_process_joins_itself() -> None:
    for kind, arguments in OBSERVERS.values():
        joined, alone = kind(is_sync_quantize=True, **arguments), kind(**arguments)
        assert joined.observe(torch.empty(0, 3)) is False
        for step in range(STEPS):
            joined(batch(step))
            alone(batch(step))
        assert all(torch.equal(v, everything_of(alone)[k]) for k, v in everything_of(joined).items())


# Models


def test_one_call_joins_all_observers_but_those_of_weights() -> None:
    model = prepared()
    names = synchronize_observers(model)
    joined = {name for name, m in model.named_modules() if isinstance(m, ObserverBase) and m.is_sync_quantize}
    assert joined == set(names)
    assert "quant.activation_post_process.activation_post_process" in joined
    others = {name for name, m in model.named_modules() if isinstance(m, ObserverBase)} - joined
    assert others == {
        "stem.0.weight_fake_quant.activation_post_process",
        "conv.weight_fake_quant.activation_post_process",
        "head.weight_fake_quant.activation_post_process",
    }
    synchronize_observers(model, False)
    assert not any(m.is_sync_quantize for m in model.modules() if isinstance(m, ObserverBase))
    with pytest.raises(ValueError, match=r"this Linear has no observer; prepare\(\) returns the model to use"):
        synchronize_observers(nn.Linear(2, 2))


def calibrate(model: nn.Module, batches: list[Tensor]) -> dict[str, Tensor]:
    model.eval()
    set_fake_quantize(model, "calibration")
    with torch.no_grad():
        for x in batches:
            model(x)
    return scales(model)


def test_a_model_is_calibrated_on_shards_as_on_all_of_the_data(tmp_path: Path) -> None:
    def work(rank: int) -> dict[str, Tensor]:
        model = prepared(default_calibration_qconfig_setter)
        synchronize_observers(model)
        return calibrate(model, [images(step)[rank::2] for step in range(4)])

    alone = calibrate(prepared(default_calibration_qconfig_setter), [images(step) for step in range(4)])
    first, second = in_processes(work, tmp_path)
    for name, scale in alone.items():
        assert torch.equal(first[name], second[name]), name
        # the float ops between the quantizers may round otherwise in smaller batches
        torch.testing.assert_close(first[name], scale, rtol=1e-5, atol=0, msg=name)
    assert torch.equal(first["quant.activation_post_process"], alone["quant.activation_post_process"])


@pytest.mark.parametrize("joined", [True, False])
def test_ddp_trains_one_model(joined: bool, tmp_path: Path) -> None:
    def work(rank: int) -> dict[str, Any]:
        model = in_training()
        if joined:
            synchronize_observers(model)
        ddp = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(ddp.parameters(), 0.1)
        after_each = []
        for step in range(4):
            optimizer.zero_grad()
            ddp(images(step)[rank::2]).square().mean().backward()
            optimizer.step()
            after_each.append(scales(model))
        if not joined:  # DDP gives all the buffers of the first process, as the next step begins
            ddp(images(9)[:1])
        if rank == 0:
            torch.save(model.state_dict(), tmp_path / "checkpoint.pt")
        torch.distributed.barrier()
        restored = prepared()
        restored.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True))
        set_fake_quantize(restored.eval(), "validation")
        with torch.no_grad():
            return {"steps": after_each, "state": model.state_dict(), "y": restored(images(7))}

    first, second = in_processes(work, tmp_path)
    start = scales(in_training())
    activations = [name for name in start if "weight" not in name]
    assert any(not torch.equal(first["steps"][-1][name], start[name]) for name in activations)
    same = [torch.equal(a[name], b[name]) for a, b in zip(first["steps"], second["steps"], strict=True) for name in a]
    assert all(same) is joined
    assert all(torch.equal(second["state"][key], value) for key, value in first["state"].items())
    assert torch.equal(first["y"], second["y"])


@pytest.mark.parametrize("name", ["lsq", "pact"])
def test_ddp_trains_learned_scales_as_one_process_would(name: str, tmp_path: Path) -> None:
    setter = TemplateQconfigSetter(get_default_qconfig(name, "lsq"), ())

    def train(model: nn.Module, of: nn.Module, shards: list[Tensor]) -> dict[str, Tensor]:
        calibrate(of, [images()])
        set_fake_quantize(of.train(), "qat")
        optimizer = torch.optim.SGD(of.parameters(), 0.1)
        for x in shards:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        return {key: value.detach() for key, value in of.named_parameters()}

    def work(rank: int) -> dict[str, Tensor]:
        of = prepared(setter)
        return train(nn.parallel.DistributedDataParallel(of), of, [images(step)[rank::2] for step in range(3)])

    first, second = in_processes(work, tmp_path)
    of = prepared(setter)
    alone = train(of, of, [images(step) for step in range(3)])
    learned = [key for key in alone if key.endswith((".scale", ".alpha"))]
    before = prepared(setter)
    calibrate(before, [images()])
    start = dict(before.named_parameters())
    assert len(learned) > 8
    for key, value in alone.items():
        assert torch.equal(first[key], second[key]), key
        torch.testing.assert_close(first[key], value, rtol=5e-2, atol=5e-3, msg=key)
    moved = {key for key in learned if not torch.equal(alone[key], start[key])}
    assert {"stem.0.weight_fake_quant.scale", "head.weight_fake_quant.scale"} < moved

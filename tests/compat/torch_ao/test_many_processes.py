"""Several processes: joined observers see what one would see, and DDP keeps the quantizers of all ranks alike."""

from __future__ import annotations

import sys

import pytest
import torch
from tests.processes import in_processes
from torch import Tensor, nn

from nashquant.compat import torch_ao

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")
ALL = torch.randn(6, 40, 3, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 4, 6)[:, None, None]


def of_rank(step: int, rank: int) -> Tensor:
    return ALL[step].chunk(2)[rank]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork
@pytest.mark.parametrize(
    "name",
    [
        "MinMaxObserver",
        "MovingAverageMinMaxObserver",
        "PerChannelMinMaxObserver",
        "MovingAveragePerChannelMinMaxObserver",
        "HistogramObserver",
    ],
)
def test_joined_observers_see_what_one_sees(name, tmp_path, assert_same_state) -> None:
    def work(rank: int) -> nn.Module:
        observer = getattr(torch_ao, name)(is_sync_quantize=True)
        for step in range(len(ALL)):
            # The second rank once has nothing to show.
            x = of_rank(step, rank) if step != 3 else ALL[3] if rank == 0 else ALL[3][:0].reshape(0, 3)
            observer(x.T if "Channel" in name else x)
        return observer

    alone = getattr(torch_ao, name)()
    for x in ALL:
        alone(x.T if "Channel" in name else x)
    for observer in in_processes(work, tmp_path):
        assert_same_state(alone, observer)
        assert torch.equal(observer.calculate_qparams()[0], alone.calculate_qparams()[0])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "make", [torch_ao.default_fake_quant, torch_ao.default_fused_act_fake_quant, torch_ao.default_fused_wt_fake_quant]
)
@pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max")
def test_joined_quantizers_have_the_scale_of_one(make, tmp_path, assert_same_state) -> None:
    def work(rank: int) -> nn.Module:
        quantizer = make(is_sync_quantize=True)
        for step in range(len(ALL)):
            quantizer(of_rank(step, rank) if step != 3 else ALL[3] if rank == 0 else ALL[3][:0])
        return quantizer

    alone = make()
    for x in ALL:
        alone(x)
    for quantizer in in_processes(work, tmp_path):
        assert_same_state(alone, quantizer)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["FakeQuantize", "FusedMovingAvgObsFakeQuantize"])
def test_ddp_keeps_all_ranks_alike(kind, tmp_path) -> None:
    def work(rank: int) -> dict[str, Tensor]:
        torch.manual_seed(rank)  # DDP makes the parameters equal
        quantizer = getattr(torch_ao, kind)()
        model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Linear(3, 4), quantizer, nn.Linear(4, 1)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(len(ALL)):
            if step == 4 and rank == 0:
                quantizer.disable_observer()  # which the next forward brings to all
            optimizer.zero_grad()
            model(of_rank(step, rank)).square().mean().backward()
            optimizer.step()
        model(of_rank(0, rank))  # broadcasts the buffers once more
        return model.module.state_dict()

    first, second = in_processes(work, tmp_path)
    for key, value in first.items():
        assert torch.equal(second[key], value), key
    assert int(second["1.observer_enabled"]) == 0
    restored = nn.Sequential(nn.Linear(3, 4), getattr(torch_ao, kind)(), nn.Linear(4, 1))
    restored.load_state_dict(first)
    assert torch.equal(restored[1].scale, first["1.scale"])

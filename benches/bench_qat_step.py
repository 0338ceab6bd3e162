"""One training step, quantized, over the float step of the same net: forward, loss, backward, SGD."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from benches import qat_models
from benches.nets import MobileNetV2Like, ResNetLike
from torch import Tensor, nn

NETS = {
    "ResNet-like 8x3x32x32": (ResNetLike, (8, 3, 32, 32), 1.18),
    "ResNet-like 8x3x64x64": (ResNetLike, (8, 3, 64, 64), 1.18),
    "MobileNetV2-like 16x3x64x64": (MobileNetV2Like, (16, 3, 64, 64), 1.30),
}
WAYS: dict[str, Callable[[nn.Module, Tensor], nn.Module]] = {
    "float": lambda net, x: copy.deepcopy(net),
    "a clone at every quantizer": qat_models.clones,
    "nashquant": qat_models.ours,
    "torch.ao fused": qat_models.torch_ao_fused,
    "torch.ao": qat_models.torch_ao,
}


def _step(model: nn.Module, x: Tensor, target: Tensor) -> Callable[[], float]:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)

    def step() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


@pytest.mark.parametrize("net", NETS)
def test_step(race_steps: Callable[..., None], net: str) -> None:
    make, shape, ceiling = NETS[net]
    x, target = torch.randn(shape), torch.arange(shape[0]) % 10
    float_net = make().train()
    models = {way: build(float_net, x) for way, build in WAYS.items()}
    with torch.no_grad():
        scores = {way: model(x) for way, model in models.items()}
    # Fresh moving averages are those of this batch, so every quantized net stays close to the float one.
    spread = float(scores["float"].std())
    for way, score in scores.items():
        assert float((score - scores["float"]).abs().max()) < 0.5 * spread, f"{way} is not the float net, quantized"
    assert torch.equal(scores["a clone at every quantizer"], scores["float"])
    race_steps(
        net=net,
        steps={way: _step(model, x, target) for way, model in models.items()},
        quantizers={way: qat_models.count_quantizers(model) for way, model in models.items()},
        ceilings={"nashquant": ceiling},
    )

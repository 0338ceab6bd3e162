"""Every network as a file: a pair with the type and scale of each quantizer, and ONNX Runtime a step off at most."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nashquant import qdq
from nashquant.quantization.fake_quantize import FakeQuantize
from nashquant.quantization.hbdk4 import export

from .networks import NETWORKS
from .way import calibrated

# It resizes by two onto the grid of what comes in: one value in 16 lies exactly between two steps, and the last bit of
# a float decides. Its layers are a step apart there, and its last one sums that up.
TIES = {"U-Net"}
TIED = "up1.conv.5.activation_post_process"
# Sums of int16 products are not exact in f32: what comes of that on the way to an output that is int16 itself.
CARRIED_ON_INT16 = 16


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*quantizers never had their scale set", "ignore:.*whose scale was never set")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_holds_the_quantizers_and_agrees(name: str, bits: int, tmp_path: Path) -> None:
    network = NETWORKS[name]
    twin = calibrated(network, network.trained(), bits)
    exported = export(twin, (network.exported or network.inputs)(4), path=tmp_path / "network.onnx", verify=False)

    grids = [grid for grid in qdq.grids(qdq.read(exported.path).graph) if not grid.bias]
    assert {grid.name for grid in grids} == set(exported.quantizers)
    for grid in grids:
        quantizer = twin.get_submodule(grid.name)
        assert isinstance(quantizer, FakeQuantize)
        assert grid.dtype == str(quantizer.dtype).removeprefix("q"), grid.name
        assert torch.equal(torch.tensor(grid.scale).reshape(-1), quantizer.scale.reshape(-1)), grid.name
        assert grid.weight or grid.quantize is not None, grid.name

    agreement = exported.verify(per_layer=True)
    # From equal inputs: each layer of int8 by itself, and what leaves in high precision in steps of its sums. Layers of
    # int16, whose sums are not exact in f32, are held to it together, below.
    for place in agreement.layers:
        if place.dtype == "int8" and place.name != TIED:
            assert place.unequal <= max(1, 0.001 * place.elements), str(agreement)
        assert place.unequal - place.reasons.divided <= max(4, 0.005 * place.elements), str(agreement)
        # As near to a tie as f32 can come to a number of that many steps, with the errors of its sums.
        assert place.reasons.from_tie <= (1e-4 if place.dtype == "int8" else 0.02), str(agreement)
        assert place.dtype != "accumulator" or place.equal >= 0.999, str(agreement)
    assert agreement.unexplained == 0, str(agreement)
    assert max(place.steps for place in agreement.layers) <= 1.01, str(agreement)
    unequal, elements = (sum(getattr(each, word) for each in agreement.layers) for word in ("unequal", "elements"))
    assert unequal / elements <= (0.01 if name in TIES else 0.001), str(agreement)
    for place in agreement.outputs:
        if name not in TIES or bits == 16:
            assert place.steps <= (CARRIED_ON_INT16 if place.dtype == "int16" else 1.01), str(agreement)
        if name not in TIES and place.dtype != "int16":
            assert place.equal >= 0.999, str(agreement)

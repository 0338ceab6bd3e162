"""How far ONNX Runtime is from each network, as the tables in docs/networks.md: `python -m tests.networks.agreement`.

Layers from equal inputs, outputs from those of the whole file; on 64 inputs that calibration did not see.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from nashquant.quantization.hbdk4 import Agreement, Place, Reasons, export

from .networks import NETWORKS
from .way import calibrated


def main() -> None:
    """A table for each width, with a row for each network."""
    logging.getLogger("nashquant").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for bits in (8, 16):
        print(f"int{bits}\n\n| network | unequal in all layers | divided | sums | off a tie | below 99.9 % | outputs |")
        print("|---|---:|---:|---:|---:|---|---|")
        for name in NETWORKS:
            print(f"| {name} | {row(agreement(name, bits))} |", flush=True)


def agreement(name: str, bits: int) -> Agreement:
    """Of the network `name`."""
    network = NETWORKS[name]
    make = network.exported or network.inputs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        twin = calibrated(network, network.trained(), bits)
        exported = export(twin, make(4), path=path, dynamic_batch=True, verify=False)
        return exported.verify(make(64), per_layer=True)


def row(found: Agreement) -> str:
    """The cells behind the name. Of the outputs: the least equal, the furthest apart; or that they hold the claim."""
    unequal, elements = (sum(getattr(place, word) for place in found.layers) for word in ("unequal", "elements"))
    whys = [place.reasons or Reasons() for place in found.layers]
    why = sum(whys[1:], whys[0])
    assert found.unexplained == 0, str(found)
    worst = min(found.layers, key=lambda place: place.equal)
    least = f"{worst.equal:.2%} `{worst.name.removesuffix('.activation_post_process')}`"
    cells = (
        f"{unequal:,} of {elements:,}",
        f"{why.divided:,}" if unequal else "",
        f"{why.added:,}" if unequal else "",
        f"{why.from_tie:.0e}" if unequal else "",
        least if worst.equal < 0.999 else "",
        _outputs(found.outputs),
    )
    return " | ".join(cells)


def _outputs(places: Sequence[Place]) -> str:
    equal, steps = min(place.equal for place in places), max(place.steps for place in places)
    return f"{equal:.2%}, {steps:.2g}" if any(place.unequal for place in places) else ""


if __name__ == "__main__":
    main()

"""How far ONNX Runtime is from each network, as the tables in docs/networks.md: `python -m tests.networks.agreement`.

Layers from equal inputs, outputs from those of the whole file; on 64 inputs that calibration did not see.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path

from nashquant.quantization.hbdk4 import Agreement, export

from .networks import NETWORKS
from .way import calibrated


def main() -> None:
    """A table for each width, with a row for each network."""
    logging.getLogger("nashquant").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for bits in (8, 16):
        print(f"int{bits}\n\n| network | unequal in all layers | the worst of them | outputs | where it begins |")
        print("|---|---:|---|---|---|")
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
    """The cells behind the name."""
    unequal, elements = (sum(getattr(place, word) for place in found.layers) for word in ("unequal", "elements"))
    worst = min(found.layers, key=lambda place: place.equal)
    begins = next((place for place in found.layers if place.unequal), None)
    outputs = ", ".join(f"{place.equal:.2%}" for place in found.outputs)
    least = f"{worst.equal:.2%} `{_short(worst.name)}`" if worst.unequal else ""
    first = "" if begins is None else f"`{_short(begins.name)}`: {begins.unequal}, {begins.by_division} by division"
    return f"{unequal:,} of {elements:,} | {least} | {outputs} | {first}"


def _short(name: str) -> str:
    return name.removesuffix(".activation_post_process")


if __name__ == "__main__":
    main()

"""Prints how close the networks come to float, as the table in docs/networks.md: `python -m tests.networks`."""

from __future__ import annotations

import logging

import torch
from torch import nn

from nashquant.quantization import QconfigSetterBase
from nashquant.quantization.qconfig_template import calibration_8bit_weight_16bit_act_qconfig_setter

from .network import Network, closeness
from .networks import NETWORKS
from .way import calibrated, in_float


def main() -> None:
    """A row for each network; calibrated on 518 inputs for each way through it, compared on 64 others."""
    logging.getLogger("nashquant").setLevel(logging.ERROR)
    print("| network | all quantizers off | int8 | int8 weights, int16 activations | int16 |")
    print("|---|---:|---:|---:|---:|")
    for name, network in NETWORKS.items():
        off = in_float(network)
        mixed = None if network.shares else calibration_8bit_weight_16bit_act_qconfig_setter
        near = [_near(network, 8), _near(network, 8, mixed) if mixed else None, _near(network, 16)]
        shown = " | ".join("" if each is None else f"{each:.1f} dB" for each in near)
        print(f"| {name} | {'same bits' if off == 0 else f'{off:.1e}'} | {shown} |", flush=True)


def _near(network: Network, bits: int, setter: QconfigSetterBase | None = None) -> float:
    model: nn.Module = network.trained()
    twin = calibrated(network, model, bits, setter, batches=(512, 1, 5))
    model.eval()
    with torch.no_grad():
        return min(closeness(twin(*inputs), model(*inputs)) for inputs in network.ways(64))


if __name__ == "__main__":
    main()

"""Calibrate and train quantized in several processes: the scales are those of one process that sees all of the data.

    torchrun --nproc-per-node 2 examples/calibrate_distributed.py [--out FOLDER]

or, to compare, `python examples/calibrate_distributed.py` for a single process. The data ships inside scikit-learn.
Each process sees every n-th image. `synchronize_observers` is the one line that joins them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nashquant import March, set_march
from nashquant.quantization import (
    DeQuantStub,
    FakeQuantize,
    FakeQuantState,
    QuantStub,
    prepare,
    set_fake_quantize,
    synchronize_observers,
)
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter, default_qat_qconfig_setter

BATCH = 256  # of all processes together


class Digits(nn.Module):
    """8x8 grey pixels in, ten scores out."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, padding=1), nn.ReLU()
        )
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.dequant(self.head(self.features(self.quant(x)).mean((2, 3))))


def train(model: nn.Module, batches: list[tuple[Tensor, Tensor]], epochs: int, lr: float) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()


def scales(model: nn.Module) -> Tensor:
    return torch.cat([module.scale for module in model.modules() if isinstance(module, FakeQuantize)])


def are_alike(values: Tensor) -> bool:
    """Whether all processes hold the same bits."""
    gathered = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, values)
    return all(torch.equal(other, values) for other in gathered)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/distributed"), help="folder for the checkpoint")
    folder = parser.parse_args().out
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")  # "nccl" on GPUs
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    rank, ranks = dist.get_rank(), dist.get_world_size()

    digits = load_digits()
    x, y = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(digits.target)
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    shares = [(images[rank::ranks], labels[rank::ranks]) for images, labels in batches]

    torch.manual_seed(0)
    net = Digits()
    train(net, batches, epochs=10, lr=2e-2)  # the same in each process; yours would be loaded

    set_march(March.NASH_E)
    calibrated = prepare(net.eval(), x[:1], qconfig_setter=(default_calibration_qconfig_setter,), save_dir=None)
    synchronize_observers(calibrated)
    calibrated.eval()
    set_fake_quantize(calibrated, FakeQuantState.CALIBRATION)
    with torch.no_grad():
        for images, _ in shares:
            calibrated(images)
    assert are_alike(scales(calibrated))
    if rank == 0:
        activations = [m.activation_post_process for m in calibrated.modules() if hasattr(m, "activation_post_process")]
        found = ", ".join(f"{m.scale.item():.5g}" for m in activations if isinstance(m, FakeQuantize))
        print(f"calibrated by {ranks}: scales {found}")

    qat = prepare(net, x[:1], qconfig_setter=(default_qat_qconfig_setter,), save_dir=None)
    qat.load_state_dict(calibrated.state_dict())
    synchronize_observers(qat)
    qat.train()
    set_fake_quantize(qat, FakeQuantState.QAT)
    train(DistributedDataParallel(qat), shares, epochs=3, lr=1e-3)
    assert are_alike(scales(qat))

    checkpoint = folder / "qat.pt"
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(qat.state_dict(), checkpoint)
    dist.barrier()
    qat.load_state_dict(torch.load(checkpoint, weights_only=True))  # what one process saved, all can go on with
    qat.eval()
    set_fake_quantize(qat, FakeQuantState.VALIDATION)
    with torch.no_grad():
        right = torch.stack([(qat(images).argmax(1) == labels).sum() for images, labels in shares]).sum()
    dist.all_reduce(right)
    if rank == 0:
        print(f"trained quantized by {ranks}: {int(right) / len(x):.2%} of the images it was trained on are right")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

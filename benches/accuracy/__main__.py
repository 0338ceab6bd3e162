"""Trains, quantizes and measures everything, and writes docs/accuracy.md: `make accuracy`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from . import nets
from .data import Data, digits, mnist
from .page import page
from .plot import write_plot
from .recipes import RECIPES, Budget
from .results import FLOAT, Results
from .training import CALIBRATION_IMAGES, Tick, accuracy, train

ROOT = Path(__file__).parents[2]


class Study(NamedTuple):
    """A net, its images, and how long it is trained on them."""

    net: Callable[[], nn.Module]
    data: Callable[[], Data]
    budget: Budget

    def quick(self) -> Study:
        """One epoch each, on few images."""
        budget = self.budget._replace(float_epochs=1, qat_epochs=1)
        return Study(self.net, lambda: self.data().part(512), budget)


STUDIES = {
    "digits, conv net": Study(nets.ConvNet, digits, Budget(12, 1e-2, 4, 1e-3)),
    "MNIST, depthwise net": Study(nets.DepthwiseNet, mnist, Budget(12, 5e-3, 4, 5e-4)),
    "MNIST, transformer": Study(nets.VisionTransformer, mnist, Budget(12, 2e-3, 4, 2e-4)),
}


def measure(name: str, study: Study, data: Data, seed: int, results: Results, folder: Path, tick: Tick) -> None:
    """All figures of one net and seed that are not there yet."""
    torch.manual_seed(seed)
    net, stored = study.net(), folder / f"{name.replace(', ', '_').replace(' ', '_')}_{seed}.pt"
    if results.get(name, FLOAT, seed) is not None and stored.exists():
        net.load_state_dict(torch.load(stored, weights_only=True))
    else:
        train(net.train(), data, study.budget.float_epochs, study.budget.float_lr, tick)
        torch.save(net.state_dict(), stored)
        results.put(name, FLOAT, seed, accuracy(net.eval(), data))
    net.eval()
    for recipe, run in RECIPES.items():
        if results.get(name, recipe, seed) is None:
            torch.manual_seed(seed)
            results.put(name, recipe, seed, accuracy(run(net, data, study.budget, tick), data))


def epochs(study: Study) -> int:
    """How often the clock ticks for one seed."""
    return study.budget.float_epochs + study.budget.qat_epochs * sum("trained" in recipe for recipe in RECIPES)


def run(studies: Mapping[str, Study], seeds: int, results: Results, folder: Path, console: Console) -> None:
    """All nets, all seeds, under a bar that counts epochs."""
    columns = (TextColumn("{task.description:<34}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=seeds * sum(map(epochs, studies.values())))
        for seed in range(seeds):  # all nets of one seed first: a run that is stopped has something of each
            done = seed * sum(map(epochs, studies.values()))
            for name, study in studies.items():
                progress.update(bar, completed=done, description=f"{name}, seed {seed + 1} of {seeds}")
                measure(name, study, study.data(), seed, results, folder, lambda: progress.advance(bar))
                done += epochs(study)
        progress.update(bar, completed=done)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benches.accuracy", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, one epoch: shows that it runs, writes no page")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "accuracy", help="folder for what is measured")
    parser.add_argument("--page", type=Path, default=ROOT / "docs", help="folder for the page")
    arguments = parser.parse_args()

    studies, seeds, console = STUDIES, arguments.seeds, Console()
    if arguments.quick:
        seeds = 1
        studies = {n: s.quick() for n, s in studies.items()}
    settings = {
        "seeds": seeds,
        "budgets": {name: study.budget._asdict() for name, study in studies.items()},
        "calibration_images": CALIBRATION_IMAGES,
        "digits_image": 100 / len(digits().test_y),
        "mnist_image": 100 / len(mnist().test_y),
    }
    folder = arguments.out / "quick" if arguments.quick else arguments.out
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "accuracy.json"
    if arguments.fresh:
        path.unlink(missing_ok=True)
    results = Results(path, settings)
    run(studies, seeds, results, folder, console)
    text, target = page(results.content), folder if arguments.quick else arguments.page
    write_plot(target / "accuracy.png", results.content)
    (target / "accuracy.md").write_text(text)
    (target / "accuracy.json").write_text(json.dumps(results.content, indent=1) + "\n")
    console.print(Markdown(text))


if __name__ == "__main__":
    main()

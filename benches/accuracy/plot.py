"""The picture: points against the float model, each seed a dot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from benches.reporting.plots import COLOURS, FAINT, INK, MUTED, STYLE

from .page import TITLES
from .results import FLOAT, against_float, mean_and_spread

OURS, THEIRS = COLOURS["nashquant"], COLOURS["torch.ao"]


def write_plot(path: Path, content: Mapping[str, Any]) -> None:
    """One panel for each net, one row for each recipe; all on one scale."""
    nets = content["nets"]
    recipes = [recipe for recipe in next(iter(nets.values())) if recipe != FLOAT]
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(nets), figsize=(11, 3.6), sharex=True, sharey=True, layout="constrained")
        for panel, (name, net) in zip(panels, nets.items(), strict=True):
            panel.axvline(0, color=MUTED, linewidth=1)
            for row, recipe in enumerate(reversed(recipes)):
                colour = THEIRS if recipe.startswith("torch.ao") else OURS
                points = against_float(net, recipe)
                mean, _ = mean_and_spread(points)
                panel.plot(points, [row] * len(points), "o", color=colour, alpha=0.35, markersize=5, mew=0)
                panel.plot([mean], [row], "|", color=colour, markersize=15, mew=2.5)
            panel.set_title(TITLES[name])
            panel.grid(axis="x", color=FAINT)
            panel.set_yticks(range(len(recipes)), list(reversed(recipes)), color=INK)
            panel.tick_params(axis="y", length=0)
            panel.set_ylim(-0.6, len(recipes) - 0.4)
        figure.supxlabel("points against the float model of the same seed: dots are seeds, bars their mean", fontsize=9)
        figure.savefig(path, dpi=160, facecolor="white")
        plt.close(figure)

"""What was measured so far, on disk after every single figure: a stop loses nothing."""

from __future__ import annotations

import datetime
import json
import os
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from benches.harness import environment

FLOAT = "float"


class Results:
    """Percent of test images named rightly, by net, recipe and seed.

    Args:
        path: the JSON file. One that was made with other `settings` is begun anew.
        settings: what the figures depend on.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {"settings": json.loads(json.dumps(settings)), "machine": _machine(), "nets": {}}
        if path.exists():
            stored = json.loads(path.read_text())
            if stored["settings"] == self.content["settings"]:
                self.content = stored

    def get(self, net: str, recipe: str, seed: int) -> float | None:
        """The figure, if there is one."""
        figure: float | None = self.content["nets"].get(net, {}).get(recipe, {}).get(str(seed))
        return figure

    def put(self, net: str, recipe: str, seed: int, accuracy: float) -> None:
        """Keeps it, at once and on disk."""
        self.content["nets"].setdefault(net, {}).setdefault(recipe, {})[str(seed)] = round(accuracy, 4)
        self.content["machine"]["date"] = datetime.date.today().isoformat()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        half_way = self.path.with_suffix(".part")
        half_way.write_text(json.dumps(self.content, indent=1) + "\n")
        os.replace(half_way, self.path)


def against_float(net: Mapping[str, Mapping[str, float]], recipe: str) -> list[float]:
    """The points that each seed's model is above or below its own float model."""
    return [figure - net[FLOAT][seed] for seed, figure in net[recipe].items()]


def mean_and_spread(figures: list[float]) -> tuple[float, float]:
    """Mean, and standard deviation over the seeds (0 of a single one)."""
    return statistics.fmean(figures), statistics.stdev(figures) if len(figures) > 1 else 0.0


def _machine() -> dict[str, Any]:
    measured = environment()
    return {
        "cpu": measured["cpu"],
        "cores": measured["cores"],
        "threads": torch.get_num_threads(),
        "torch": measured["versions"]["torch"].partition("+")[0],
    }

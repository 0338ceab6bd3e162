"""Puts the report's files into a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .markdown import write_markdown


def write_report(
    folder: Path, machine: dict[str, Any], records: list[dict[str, Any]], absences: dict[str, str]
) -> list[Path]:
    """`report.json`, the plots and `report.md`; gives the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in (*folder.glob("*.png"), *folder.glob("*.svg")):
        stale.unlink()
    data = folder / "report.json"
    data.write_text(json.dumps({"machine": machine, "not_measured": absences, "rows": records}, indent=1) + "\n")
    try:
        from .plots import write_plots
    except ImportError as error:
        absences = {**absences, "plots": f"{error.name} is missing"}
        plots = []
    else:
        plots = write_plots(folder, machine, records)
    page = folder / "report.md"
    write_markdown(page, machine, records, absences, [plot.name for plot in plots if plot.suffix == ".png"])
    return [page, data, *plots]

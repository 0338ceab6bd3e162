"""The accuracy table: its page says what was measured, and the command that measures it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from benches.accuracy.page import page
from benches.accuracy.results import FLOAT, Results, against_float

ROOT = Path(__file__).parents[1]
MEASURED = json.loads((ROOT / "docs" / "accuracy.json").read_text())


def test_the_page_is_made_from_the_figures() -> None:
    assert (ROOT / "docs" / "accuracy.md").read_text() == page(MEASURED)


def test_int8_training_stays_within_three_tenths_of_a_point_of_float() -> None:
    assert len(MEASURED["nets"]) == 3
    for name, net in MEASURED["nets"].items():
        assert all(len(seeds) == 5 for seeds in net.values())
        assert fmean(against_float(net, "int8, trained")) > -0.3, name


def test_what_was_measured_survives_a_stop_and_no_other_settings(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.json"
    Results(path, {"epochs": 1}).put("net", FLOAT, 0, 98.76543)
    assert Results(path, {"epochs": 1}).get("net", FLOAT, 0) == 98.7654
    assert Results(path, {"epochs": 1}).get("net", FLOAT, 1) is None
    assert Results(path, {"epochs": 2}).get("net", FLOAT, 0) is None


def test_the_quick_form_measures_everything_once(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "benches.accuracy", "--quick", "--out", str(tmp_path))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads((tmp_path / "quick" / "accuracy.json").read_text())["nets"]
    assert {name: list(net) for name, net in measured.items()} == {
        name: list(net) for name, net in MEASURED["nets"].items()
    }
    assert all(0 <= value <= 100 for net in measured.values() for seeds in net.values() for value in seeds.values())
    assert (tmp_path / "quick" / "accuracy.png").stat().st_size > 10_000
    assert (tmp_path / "quick" / "accuracy.md").read_text().startswith("# Accuracy")

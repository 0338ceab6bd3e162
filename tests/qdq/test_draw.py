"""Pictures: everything is in them, and no box covers another."""

from __future__ import annotations

import importlib.util
from itertools import combinations
from pathlib import Path

import pytest

from nashquant import qdq
from nashquant.qdq.layout import layout
from nashquant.quantization.hbdk4 import ExportedModel


def test_an_svg_names_operators_modules_dtypes_and_scales(exported: ExportedModel, tmp_path: Path) -> None:
    text = exported.draw(tmp_path / "net.svg").read_text()
    assert exported.draw(tmp_path / "again.svg").read_text() == text
    for grid in qdq.grids(qdq.read(exported.path).graph):
        assert (str(grid) if grid.axis is None else f"weight {grid.dtype}, {grid.scale.size} scales") in text, grid.name
    for words in ("Conv", "Gemm", "conv", "head", "input", "output", "float[2, 2, 5, 5]"):
        assert f">{words}<" in text


def test_a_png_is_a_picture(foreign: Path, tmp_path: Path) -> None:
    qdq.draw(qdq.read(foreign), tmp_path / "net.png")
    assert (tmp_path / "net.png").read_bytes().startswith(b"\x89PNG")


def test_other_suffixes_and_missing_packages_are_refused(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = qdq.read(foreign)
    with pytest.raises(ValueError, match=r"a picture is \.svg or \.png, not 'net\.jpg'"):
        qdq.draw(model, tmp_path / "net.jpg")
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    with pytest.raises(ImportError, match=r"drawing needs matplotlib: pip install nashquant\[draw\]"):
        qdq.draw(model, tmp_path / "net.svg")


def test_boxes_lie_below_what_they_read_and_apart() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "d"), ("d", "c"), ("a", "c"), ("a", "e"), ("e", "f"), ("c", "f")]
    placed = layout("abdecf", edges)
    for first, second in edges:
        assert placed.boxes[second][1] > placed.boxes[first][1]
        way = placed.ways[first, second]
        assert [layer for _, layer in way] == list(range(placed.boxes[first][1], placed.boxes[second][1] + 1))
        assert (way[0], way[-1]) == (placed.boxes[first], placed.boxes[second])
    # Boxes, and lines that pass between them.
    places = [*placed.boxes.values(), *(point for way in placed.ways.values() for point in way[1:-1])]
    for (x, layer), (other, same) in combinations(places, 2):
        assert layer != same or abs(x - other) >= 1 - 1e-9

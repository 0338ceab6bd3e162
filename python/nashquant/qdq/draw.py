"""A picture of a QDQ model: its operators, and on the lines between them which integers pass."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .grids import Grid, grids
from .layout import Layout, layout

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["check_picture", "draw"]

COLORS = {"int4": "#7b3294", "int8": "#1b7f5c", "uint8": "#1b7f5c", "int16": "#c05a00", "uint16": "#c05a00"}
FLOAT, INK = "#7a7a7a", "#222222"
WIDTH, HEIGHT = 3.1, 1.0  # of a box and its gap, in inches


@dataclass(frozen=True)
class Box:
    """An operator, or an input or output of the model: its lines of text, and the dtype that colours it."""

    title: str
    lines: tuple[str, ...]
    dtype: str


def draw(model: ir.Model, path: str | os.PathLike[str]) -> Path:
    """Writes a picture of `model` to `path`, as SVG or PNG after its suffix.

    Lines are coloured by dtype and say the scale; boxes name the module an operator comes from, and its weight.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: another suffix; scales for blocks.
    """
    path = check_picture(path)
    boxes, edges = _contents(model.graph)
    _paint(boxes, edges, layout(list(boxes), list(edges)), path)
    return path


def check_picture(path: str | os.PathLike[str]) -> Path:
    """`path`, if a picture can be drawn there.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: its suffix is not .svg or .png.
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise ValueError(f"a picture is .svg or .png, not {path.name!r}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("drawing needs matplotlib: pip install nashquant[draw]")
    return path


def _contents(graph: ir.Graph) -> tuple[dict[str, Box], dict[tuple[str, str], Grid | None]]:
    """The boxes in the order they run; the lines between them, with the grid of what passes (None: floats)."""
    found = {grid.dequantize.outputs[0]: grid for grid in grids(graph)}
    boxes: dict[str, Box] = {}
    edges: dict[tuple[str, str], Grid | None] = {}
    origin: dict[ir.Value, tuple[str, Grid | None]] = {}
    for value in graph.inputs:
        boxes[f"> {value.name}"] = Box(value.name or "", ("input", _shape(value)), "")
        origin[value] = (f"> {value.name}", None)
    for i, node in enumerate(graph):
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            first = node.inputs[0]
            if first in origin:
                for y in node.outputs:
                    origin[y] = (origin[first][0], found.get(y, origin[first][1]))
            continue
        reads = [origin[value] for value in node.inputs if value in origin]
        if not reads:
            continue  # shapes and constants
        key = f"{i}"
        boxes[key] = _box(node, [found[value] for value in node.inputs if value in found], _given(node, found))
        edges.update({(name, key): grid for name, grid in reads})
        origin.update(dict.fromkeys(node.outputs, (key, None)))
    for value in graph.outputs:
        if value in origin:
            name, grid = origin[value]
            boxes[f"< {value.name}"] = Box(value.name or "", ("output", _shape(value)), grid.dtype if grid else "")
            edges[name, f"< {value.name}"] = grid
    return boxes, edges


def _given(node: ir.Node, found: Mapping[ir.Value, Grid]) -> Grid | None:
    """The grid that what `node` gives is put on at once."""
    for use in node.outputs[0].uses():
        if use.node.op_type == "QuantizeLinear":
            for next_use in use.node.outputs[0].uses():
                if next_use.node.outputs[0] in found:
                    return found[next_use.node.outputs[0]]
    return None


def _box(node: ir.Node, read: list[Grid], given: Grid | None) -> Box:
    module = node.metadata_props.get("nashquant.module") or (node.name or "").rpartition("/")[0]
    weights = tuple(f"weight {_short(grid)}" for grid in read if grid.weight and not grid.bias)
    computes = given or next((grid for grid in read if not grid.weight), None)
    lines = (_clipped(module.removesuffix(".activation_post_process")), *weights)
    return Box(node.op_type, tuple(line for line in lines if line), computes.dtype if computes else "")


def _short(grid: Grid) -> str:
    if grid.axis is None:
        return str(grid)
    return f"{grid.dtype}, {grid.scale.size} scales"


def _clipped(text: str, most: int = 30) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _shape(value: ir.Value) -> str:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    return f"{dtype}{list(map(str, value.shape)) if value.shape is not None else ''}".replace("'", "")


def _paint(boxes: Mapping[str, Box], edges: Mapping[tuple[str, str], Grid | None], placed: Layout, path: Path) -> None:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyBboxPatch

    xs = [x for way in placed.ways.values() for x, _ in way] + [x for x, _ in placed.boxes.values()]
    depth = max((layer for _, layer in placed.boxes.values()), default=0)
    left, right = min(xs, default=0.0) - 0.6, max(xs, default=0.0) + 0.6
    figure = Figure(figsize=((right - left) * WIDTH, (depth + 1.2) * HEIGHT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(left, right), ylim=(depth + 0.6, -0.6))
    for edge, grid in edges.items():
        _line(axes, placed.ways[edge], grid)
    for key, box in boxes.items():
        x, y = placed.boxes[key]
        color = COLORS.get(box.dtype, FLOAT)
        shape = FancyBboxPatch(
            (x - 0.4, y - 0.29), 0.8, 0.58, boxstyle="round,pad=0.02", facecolor="white", edgecolor=color, linewidth=1.4
        )
        axes.add_patch(shape)
        step = 0.17
        top = y - step * len(box.lines) / 2 + 0.01
        axes.text(x, top, box.title, ha="center", va="center", fontsize=9, fontweight="bold", color=INK)
        for i, line in enumerate(box.lines):
            axes.text(x, top + step * (i + 1), line, ha="center", va="center", fontsize=7, color=INK)
    # Text that can be searched, and the same file each time.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "nashquant"}):
        figure.savefig(path, dpi=110, facecolor="white", metadata=metadata)


def _line(axes: Any, way: tuple[tuple[float, int], ...], grid: Grid | None) -> None:
    color = FLOAT if grid is None else COLORS.get(grid.dtype, FLOAT)
    points = [(way[0][0], way[0][1] + 0.31), *way[1:-1], (way[-1][0], way[-1][1] - 0.31)]
    axes.plot([x for x, _ in points], [y for _, y in points], color=color, linewidth=1.3, zorder=0)
    (x0, y0), (x1, y1) = points[-2:]
    axes.text(
        (x0 + x1) / 2,
        (y0 + y1) / 2,
        "float" if grid is None else str(grid),
        fontsize=6.5,
        color=color,
        ha="center",
        va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.2},
    )

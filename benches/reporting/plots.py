"""The pictures: time per element against size, how many times faster, and the training step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")  # no screen is needed
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from .record import OURS
from .verdict import AVX2_SHARE

INK, MUTED, FAINT = "#1d2733", "#6b7785", "#e4e8ec"
COLOURS = {
    OURS: "#0b7a75",
    "torch": "#d1603d",
    "torch.ao": "#d1603d",
    "torch.ao fused": "#e9a178",
    "Inductor STE": "#7d6aa8",
    "torch loop": "#d1603d",
    "a clone at every quantizer": "#a9b4bf",
    "float": "#cfd6dc",
    "copy": "#6b7785",
}
OTHER = "#8a94a0"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.hashsalt": "nashquant",
}


def write_plots(folder: Path, machine: dict[str, Any], records: list[dict[str, Any]]) -> list[Path]:
    """Each plot that there are figures for, as PNG and SVG."""
    records = [line for line in records if "cpu_capability" not in line]  # those are in the table
    paths = []
    drawings: dict[str, Callable[[list[dict[str, Any]], str], Figure | None]] = {
        "ratios": _ratios,
        "time_per_element": _time_per_element,
        "qat_step": _qat_step,
    }
    with plt.rc_context(STYLE):
        for name, draw in drawings.items():
            figure = draw(records, machine["isa"])
            if figure is None:
                continue
            figure.text(0.995, 0.004, _caption(machine), ha="right", va="bottom", fontsize=7.5, color=MUTED)
            for suffix in ("png", "svg"):
                path = folder / f"{name}.{suffix}"
                metadata = {"Date": None} if suffix == "svg" else None
                figure.savefig(path, dpi=160, facecolor="white", metadata=metadata)
                paths.append(path)
            plt.close(figure)
    return paths


def _caption(machine: dict[str, Any]) -> str:
    cores = f"{machine['cores']} cores"
    return f"{machine['cpu']}, {cores}, {machine['isa']} · torch {machine['versions']['torch']} · {machine['date']}"


def _colour(name: str) -> str:
    return COLOURS.get(name, OTHER)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"


# Time per element against size


def _time_per_element(records: list[dict[str, Any]], _isa: str) -> Figure | None:
    panels = {
        "fake quantize, forward": ("fake_quantize_per_tensor", "forward, f32"),
        "fake quantize, forward + backward": ("fake_quantize_per_tensor", "forward + backward, f32"),
        "FakeQuantize module, forward + backward": ("FakeQuantize module", "training step, f32"),
    }
    found = {
        title: sorted(
            (
                line
                for line in records
                if (line.get("work"), line.get("what")) == key and line["threads"] == 1 and "seconds" in line
            ),
            key=lambda line: line["elements"],
        )
        for title, key in panels.items()
    }
    found = {title: lines for title, lines in found.items() if len(lines) > 2}
    if not found:
        return None
    figure, axes = plt.subplots(1, len(found), figsize=(4.4 * len(found), 4.6), sharey=True, squeeze=False)
    for axis, (title, lines) in zip(axes[0], found.items(), strict=True):
        _time_panel(axis, title, lines)
    axes[0][0].set_ylabel("nanoseconds per element")
    _head(
        figure,
        4.6,
        "Time per element",
        "one thread's CPU time, f32; flat: linear cost; the copy goes into a new buffer, as ours does",
    )
    figure.tight_layout(rect=(0, 0.04, 1, 0.89))
    return figure


def _time_panel(axis: Axes, title: str, lines: list[dict[str, Any]]) -> None:
    everywhere = [name for name in lines[0]["seconds"] if all(name in line["seconds"] for line in lines)]
    sizes = [line["elements"] for line in lines]
    ends = []
    for name in everywhere:
        values = [line["seconds"][name] / line["elements"] * 1e9 for line in lines]
        style: dict[str, Any] = {"linewidth": 1.8, "marker": "o", "markersize": 3.5}
        if name == OURS:
            style |= {"linewidth": 2.6, "markersize": 5, "zorder": 3}
        if name == "copy":
            style = {"linewidth": 1.3, "linestyle": (0, (4, 2))}
        axis.plot(sizes, values, color=_colour(name), **style)
        ends.append((values[-1], "a copy" if name == "copy" else name, _colour(name)))
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_title(title, loc="left")
    axis.grid(axis="y", color=FAINT, linewidth=0.8)
    axis.xaxis.set_major_locator(FixedLocator(sizes[::2]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 2**20:g}M" if n >= 2**20 else f"{n / 2**10:g}K"))
    axis.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axis.set_xlabel("elements")
    axis.set_xlim(sizes[0] / 1.4, sizes[-1] * 24)
    _label_ends(axis, sizes[-1], ends)


def _label_ends(axis: Axes, x: float, ends: list[tuple[float, str, str]]) -> None:
    """Names at the right ends of their lines, pushed apart where they would touch."""
    below = 0.0
    for value, name, colour in sorted(ends):
        at = max(value, below * 1.55)
        below = at
        weight = "bold" if name == OURS else "normal"
        axis.text(x * 1.35, at, name, color=colour, va="center", fontsize=9, fontweight=weight)


# How many times faster

Bar = tuple[str, str, dict[int, tuple[float, float, float]], float | None]


def _ratios(records: list[dict[str, Any]], isa: str) -> Figure | None:
    bars = _bars(records)
    if not bars:
        return None
    figure, axis = plt.subplots(figsize=(11, 0.34 * len(bars) + 1.5))
    for y, (_, rival, by_threads, floor) in enumerate(reversed(bars)):
        for threads, (ratio, low, high) in by_threads.items():
            pale = threads > 1
            alone = len(by_threads) == 1
            at = y if alone else y - 0.18 if pale else y + 0.18
            axis.barh(at, ratio - 1, left=1, height=0.34, color=_colour(rival), alpha=0.45 if pale else 1, linewidth=0)
            axis.plot([low, high], [at, at], color=INK, linewidth=0.9)
            axis.annotate(
                f"{_number(ratio)}×",
                (max(high, ratio), at) if ratio >= 1 else (min(low, ratio), at),
                xytext=(4 if ratio >= 1 else -4, 0),
                textcoords="offset points",
                ha="left" if ratio >= 1 else "right",
                va="center",
                fontsize=7.5,
                color=MUTED if pale else INK,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
            )
        if floor:
            axis.plot([floor, floor], [y - 0.42, y + 0.42], color=INK, linewidth=1.8)
            if _asks_less(isa, floor):
                share = AVX2_SHARE * floor
                axis.plot([share, share], [y - 0.42, y + 0.42], color=INK, linewidth=1.1, linestyle=(0, (1.5, 1.2)))
    axis.axvline(1, color=MUTED, linewidth=1)
    axis.set_xscale("log")
    ratios = [value for bar in bars for figures in bar[2].values() for value in figures] + [bar[3] or 1 for bar in bars]
    axis.set_xlim(min(0.7, 0.55 * min(ratios)), 1.35 * max(ratios))
    axis.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}×"))
    axis.set_yticks(range(len(bars)), [label for label, *_ in reversed(bars)], fontsize=8.5)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(-0.7, len(bars) - 0.3)
    axis.grid(axis="x", color=FAINT, linewidth=0.8)
    inches = figure.get_figheight()
    _head(figure, inches, "How many times our time the rival takes", _legend(bars, isa))
    figure.tight_layout(rect=(0, 0.25 / inches, 1, 1 - 0.6 / inches))
    return figure


def _asks_less(isa: str, floor: float) -> bool:
    return "AVX-512" not in isa and floor > 1


def _legend(bars: list[Bar], isa: str) -> str:
    threads = {count for bar in bars for count in bar[2]}
    words = ["full colour: 1 thread, pale: 2 threads"] if len(threads) > 1 else [f"{threads.pop()} thread(s)"]
    words += ["thin line: middle half of the rounds", "black tick: the floor"]
    if any(_asks_less(isa, bar[3] or 0) for bar in bars):
        words.append(f"dotted: {AVX2_SHARE:.0%} of it, asked where there is no AVX-512")
    return "; ".join(words)


def _head(figure: Figure, inches: float, title: str, below: str) -> None:
    figure.text(0.008, 1 - 0.12 / inches, title, va="top", fontweight="bold", fontsize=13)
    figure.text(0.008, 1 - 0.4 / inches, below, va="top", fontsize=8.5, color=MUTED)


def _bars(records: list[dict[str, Any]]) -> list[Bar]:
    """One for each row and rival that has a floor; both thread counts in it."""
    bars: dict[tuple[str, str, str, str], Bar] = {}
    for line in records:
        for rival in line.get("rivals", ()):
            if rival["floor"] is None:
                continue
            key = (line["work"], line["what"], line["size"], rival["name"])
            what = "" if line["what"] == "f32" else f", {line['what'].removesuffix(', f32')}"
            label = f"{line['work']}{what}, {line['size']}, against {rival['name']}"
            bar = bars.setdefault(key, (label, rival["name"], {}, rival["floor"]))
            bar[2][line["threads"]] = (rival["ratio"], rival["low"], rival["high"])
    return list(bars.values())


# The training step


def _qat_step(records: list[dict[str, Any]], _isa: str) -> Figure | None:
    lines = [line for line in records if "steps" in line]
    if not lines:
        return None
    nets = list(dict.fromkeys(line["net"] for line in lines))
    counts = sorted({line["threads"] for line in lines})
    figure, axes = plt.subplots(1, len(nets), figsize=(4.4 * len(nets), 4.5), sharey=True, squeeze=False)
    top = max(step["high"] for line in lines for step in line["steps"].values())
    for axis, net in zip(axes[0], nets, strict=True):
        ways: list[str] = []
        of_net = [line for line in lines if line["net"] == net]
        for line in of_net:
            ways = [way for way in line["steps"] if way != "float"]
            pale = line["threads"] > 1
            shift = 0 if len(of_net) == 1 else 0.21 if pale else -0.21
            for at, way in enumerate(ways):
                step = line["steps"][way]
                x, over = at + shift, step["over_float"]
                axis.bar(x, over, width=0.38, color=_colour(way), alpha=0.45 if pale else 1, linewidth=0)
                axis.plot([x, x], [step["low"], step["high"]], color=INK, linewidth=0.9)
                axis.text(x, step["high"] + 0.02 * top, f"{over:.2f}", ha="center", fontsize=8, color=INK)
                if step["ceiling"]:
                    axis.plot([at - 0.46, at + 0.46], [step["ceiling"]] * 2, color=INK, linewidth=1.6)
        quantizers = {way: line["steps"][way]["quantizers"] for way in ways}
        names = {"a clone at every quantizer": "a clone at\neach", "torch.ao fused": "torch.ao\nfused"}
        axis.set_xticks(range(len(ways)), [f"{names.get(w, w)}\n({quantizers[w]})" for w in ways], fontsize=8.5)
        axis.tick_params(axis="x", length=0)
        axis.axhline(1, color=MUTED, linewidth=1)
        axis.set_title(net, loc="left")
        axis.grid(axis="y", color=FAINT, linewidth=0.8)
        axis.set_ylim(0, top * 1.12)
    axes[0][0].set_ylabel("times the float step")
    legend = "full colour: 1 thread, pale: 2 threads; " if len(counts) > 1 else f"{counts[0]} thread(s); "
    legend += "thin line: middle half of the rounds; black tick: our ceiling; in brackets: how many quantizers"
    _head(figure, 4.5, "One quantized training step, over the float step of the same net", legend)
    figure.tight_layout(rect=(0, 0.04, 1, 0.89))
    return figure

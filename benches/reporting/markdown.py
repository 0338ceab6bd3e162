"""The report as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabulate import tabulate

from .record import OURS
from .verdict import counts, missed, verdict

HEAD = ("work", "size", "threads", "time", "rival", "rival / ours", "middle half", "floor", "verdict", "memory speed")
STEP_HEAD = ("net", "threads", "who", "quantizers", "time", "times the float step", "ceiling", "verdict")


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def times(value: float) -> str:
    return f"{value:.0f}×" if value >= 20 else f"{value:.1f}×" if value >= 3 else f"{value:.2f}×"


def _rows(records: list[dict[str, Any]], isa: str) -> list[tuple[Any, ...]]:
    rows = []
    for line in (line for line in records if "net" not in line):
        name = f"{line['work']}, {line['what']}"
        if "seconds" not in line:
            rows.append((name, line["size"], line["threads"], "machine busy", *[""] * 6))
            continue
        for rival in line["rivals"]:
            first = rival is line["rivals"][0]
            rows.append(
                (
                    name if first else "",
                    line["size"] if first else "",
                    line["threads"],
                    duration(line["seconds"][OURS]) if first else "",
                    rival["name"],
                    times(rival["ratio"]),
                    f"{times(rival['low'])} to {times(rival['high'])}",
                    times(rival["floor"]) if rival["floor"] else "",
                    verdict(rival["ratio"], rival["floor"], isa, scales_with_isa="cpu_capability" not in line),
                    _pace(line.get("pace"), isa) if first else "",
                )
            )
    return rows


def _lowered(count: int) -> str:
    return f"{count} hold at the 60 % that are asked of a machine without AVX-512, " if count else ""


def _pace(pace: dict[str, Any] | None, isa: str) -> str:
    if pace is None:
        return ""
    text = f"{pace['share']:.0%} of {pace['name']}"
    if pace["floor"]:
        word = verdict(pace["share"], pace["floor"], isa, scales_with_isa=False)
        text += f" (floor {pace['floor']:.0%}: {word})"
    return text


def _steps(records: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    rows = []
    for line in (line for line in records if "net" in line):
        if "seconds" not in line:
            rows.append((line["net"], line["threads"], "machine busy", *[""] * 5))
            continue
        for who, step in line["steps"].items():
            ceiling = step["ceiling"]
            rows.append(
                (
                    line["net"] if who == "float" else "",
                    line["threads"],
                    who,
                    step["quantizers"],
                    duration(line["seconds"][who]),
                    f"{step['over_float']:.2f}×",
                    f"{ceiling:.2f}×" if ceiling else "",
                    ("holds" if step["over_float"] <= ceiling else "misses") if ceiling else "",
                )
            )
    return rows


def table(records: list[dict[str, Any]], isa: str, style: str = "simple") -> str:
    """All rows, and the training steps below."""
    parts = []
    if rows := _rows(records, isa):
        parts.append(tabulate(rows, HEAD, tablefmt=style, disable_numparse=True))
    if steps := _steps(records):
        parts.append(tabulate(steps, STEP_HEAD, tablefmt=style, disable_numparse=True))
    return "\n\n".join(parts)


def _notes(records: list[dict[str, Any]], absences: dict[str, str]) -> list[str]:
    notes = {f"{r['name']}: {r['note']}." for line in records for r in line.get("rivals", ()) if r["note"]}
    notes |= {f"{line['net'] if 'net' in line else line['work']}: {line['note']}" for line in records if line["note"]}
    dropped = sum(line.get("dropped", 0) for line in records)
    kept = sum(line.get("rounds", 0) for line in records if line["threads"] > 1)
    return [
        *sorted(notes),
        f"Two threads: {dropped} rounds were dropped because a neighbour had a core; {kept} were kept.",
        *(f"Not measured: {rival}: {why}." for rival, why in absences.items()),
    ]


def write_markdown(
    path: Path, machine: dict[str, Any], records: list[dict[str, Any]], absences: dict[str, str], plots: list[str]
) -> None:
    """The page, with `plots` (file names beside it) at the top."""
    versions = ", ".join(f"{name} {version or 'not installed'}" for name, version in machine["versions"].items())
    found = counts(records, machine["isa"])
    facts = {
        "CPU": f"{machine['cpu']}, {machine['cores']} cores{', virtual' if machine['virtual_machine'] else ''}",
        "Instruction set": f"{machine['isa']}; torch uses {machine['torch_cpu_capability']}",
        "OMP_WAIT_POLICY": machine["OMP_WAIT_POLICY"],
        "Frequency governor": machine["frequency_governor"] or "not readable",
        "Transparent huge pages": machine["transparent_hugepage"],
        "Load when written": " ".join(machine["load_at_end"]),
        "Versions": versions,
        "Inductor's compiler": machine["compiler"] or "none",
    }
    lines = [
        "# nashquant beside its rivals",
        "",
        f"Measured {machine['date']} with `make bench`. What the columns mean: [docs/benchmarks.md]"
        "(../../docs/benchmarks.md).",
        "",
        f"Of {sum(found.values())} floors, {found['holds']} hold, {_lowered(found['holds at 60 %'])}and "
        f"{found['misses']} are missed.",
        "",
        *(f"![{Path(plot).stem.replace('_', ' ')}]({plot})\n" for plot in plots),
        "## Machine",
        "",
        *(f"- {name}: {fact}" for name, fact in facts.items()),
        "",
        "## Floors that are missed",
        "",
        *([f"- {miss}" for miss in missed(records, machine["isa"])] or ["None."]),
        "",
        "What stands in their way: [docs/benchmarks.md](../../docs/benchmarks.md#what-limits-the-rows-that-miss).",
        "",
        "## All rows",
        "",
        table(records, machine["isa"], "github"),
        "",
        "## Notes",
        "",
        *(f"- {note}" for note in _notes(records, absences)),
        "",
    ]
    path.write_text("\n".join(lines))

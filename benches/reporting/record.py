"""A measured row as plain data: what the JSON holds, and what tables and plots are made from."""

from __future__ import annotations

from typing import Any

from benches.harness import Measured, Row

OURS = "nashquant"


def record(row: Row, threads: int, measured: Measured | None) -> dict[str, Any]:
    """`measured` None: the machine was never quiet, which the record says by having no `seconds`."""
    line: dict[str, Any] = {
        "work": row.work,
        "what": row.what,
        "size": row.size,
        "elements": row.elements,
        "threads": threads,
        "note": row.note,
    }
    if measured is None:
        return line
    line |= {"clock": measured.clock, "rounds": measured.rounds, "dropped": measured.dropped}
    line["seconds"] = {name: measured.median(name) for name in measured.seconds}
    line["rivals"] = [
        {
            "name": rival.name,
            "note": rival.note,
            "floor": row.floors.get(rival.name),
            **dict(zip(("ratio", "low", "high"), measured.ratio(rival.name, OURS), strict=True)),
        }
        for rival in row.rivals
    ]
    if row.bytes_moved is not None and row.pace_bytes is not None:
        inverse, low, high = measured.ratio(row.pace_name, OURS)
        per_byte = row.bytes_moved / row.pace_bytes
        line["pace"] = {
            "name": row.pace_name,
            "bytes": row.bytes_moved,
            "gb_per_s": row.bytes_moved / measured.median(OURS) / 1e9,
            "pace_gb_per_s": row.pace_bytes / measured.median(row.pace_name) / 1e9,
            "share": inverse * per_byte,
            "low": low * per_byte,
            "high": high * per_byte,
            "floor": row.pace_floor,
        }
    return line


def record_steps(
    net: str, threads: int, measured: Measured | None, quantizers: dict[str, int], ceilings: dict[str, float]
) -> dict[str, Any]:
    """Training steps of one net; everybody is compared with the step named `float`."""
    line: dict[str, Any] = {"net": net, "threads": threads, "note": ""}
    if measured is None:
        return line
    line |= {"clock": measured.clock, "rounds": measured.rounds, "dropped": measured.dropped}
    line["seconds"] = {name: measured.median(name) for name in measured.seconds}
    line["steps"] = {
        name: {
            "quantizers": quantizers[name],
            "ceiling": ceilings.get(name),
            **dict(zip(("over_float", "low", "high"), measured.ratio(name, "float"), strict=True)),
        }
        for name in measured.seconds
    }
    return line

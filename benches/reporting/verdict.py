"""Does a figure hold its floor?"""

from __future__ import annotations

from typing import Any

AVX2_SHARE = 0.6  # the floors are for AVX-512; on AVX2 this much of them is asked for


def verdict(value: float, floor: float | None, isa: str, *, scales_with_isa: bool = True) -> str:
    """`holds`, `holds at 60 %` (only where there is no AVX-512, and the floor is above 1), `misses`, or nothing."""
    if floor is None:
        return ""
    if value >= floor:
        return "holds"
    at_most_avx2 = "AVX-512" not in isa
    if at_most_avx2 and scales_with_isa and floor > 1 and value >= AVX2_SHARE * floor:
        return "holds at 60 %"
    return "misses"


def counts(records: list[dict[str, Any]], isa: str) -> dict[str, int]:
    """How many floors hold, and how many not."""
    found = {"holds": 0, "holds at 60 %": 0, "misses": 0}
    for line in records:
        for rival in line.get("rivals", ()):
            word = verdict(rival["ratio"], rival["floor"], isa, scales_with_isa="cpu_capability" not in line)
            if word:
                found[word] += 1
        pace = line.get("pace")
        if pace and pace["floor"]:
            found[verdict(pace["share"], pace["floor"], isa, scales_with_isa=False)] += 1
        for step in line.get("steps", {}).values():
            if step["ceiling"]:
                found["holds" if step["over_float"] <= step["ceiling"] else "misses"] += 1
    return found


def missed(records: list[dict[str, Any]], isa: str) -> list[str]:
    """Each missed floor in words: the work, its size and threads, the rival, the figure and the floor."""
    found = []
    for line in records:
        where = f"{line['threads']} thread{'s' if line['threads'] > 1 else ''}"
        for rival in line.get("rivals", ()):
            scales = "cpu_capability" not in line
            if verdict(rival["ratio"], rival["floor"], isa, scales_with_isa=scales) == "misses":
                work = f"{line['work']}, {line['what']}, {line['size']}, {where}"
                found.append(f"{work}, beside {rival['name']}: {rival['ratio']:.2f} of {rival['floor']:.2f}")
        pace = line.get("pace")
        if pace and verdict(pace["share"], pace["floor"], isa, scales_with_isa=False) == "misses":
            work = f"{line['work']}, {line['what']}, {line['size']}, {where}"
            found.append(f"{work}: {pace['share']:.0%} of {pace['name']}, of {pace['floor']:.0%}")
        for who, step in line.get("steps", {}).items():
            if step["ceiling"] and step["over_float"] > step["ceiling"]:
                found.append(f"{line['net']}, {where}, {who}: {step['over_float']:.2f} of {step['ceiling']:.2f}")
    return found

"""Was anybody else using our cores meanwhile?"""

from __future__ import annotations

from pathlib import Path

_TASKS = Path("/proc/self/task")


def waited() -> float | None:
    """Seconds that our threads stood ready to run while a neighbour had the core, so far. None: not told here.

    Field 2 of `schedstat`, summed over threads. A neighbour on the core that a worker wants to wake on shows here
    too, which CPU time against wall time would not tell from a serial stretch.
    """
    total = 0
    try:
        for task in _TASKS.iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[1])
            except (FileNotFoundError, ProcessLookupError):  # the thread has just ended
                continue
    except (OSError, IndexError, ValueError):
        return None
    return total / 1e9


def steal_ticks() -> int:
    """Ticks the hypervisor took from us, so far."""
    try:
        return int(Path("/proc/stat").read_text().split(maxsplit=9)[8])
    except (OSError, IndexError, ValueError):
        return 0

"""What was probably meant by a name that is not there."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["near"]


def near(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'conv'?)", or nothing."""
    names = list(known)
    found = (
        difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [n for n in names if n.startswith(f"{name}.")][:3]
    )
    if not found and len(names) <= 8:
        found = names
    return f" (did you mean {', '.join(map(repr, found))}?)" if found else ""

"""Where a file may be written."""

from __future__ import annotations

import os
from pathlib import Path


def place(path: str | os.PathLike[str]) -> Path:
    """`path`, if a file can be put there.

    Raises:
        FileNotFoundError: its folder does not exist.
        IsADirectoryError: it is a folder itself.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"cannot write {str(target)!r}: there is no folder {str(target.parent)!r}")
    if target.is_dir():
        raise IsADirectoryError(f"cannot write {str(target)!r}: it is a folder")
    return target

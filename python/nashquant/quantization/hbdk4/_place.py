"""What writing a file needs: a place for it, and the packages."""

from __future__ import annotations

import importlib.util
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


def require(*modules: str) -> None:
    """Nothing, if all `modules` are installed.

    Raises:
        ImportError: names those that are not.
    """
    missing = [module.replace("_", "-") for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise ImportError(f"export needs {', '.join(missing)}: pip install nashquant[export]")

"""`python -m nashquant`, and the command `nashquant`."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line."""
    missing = [name for name in ("typer", "rich", "onnx_ir") if importlib.util.find_spec(name) is None]
    if missing:
        names = ", ".join(name.replace("_", "-") for name in missing)
        sys.exit(f"the command line needs {names}: pip install 'nashquant[cli]'")
    from nashquant.cli import app

    app()


if __name__ == "__main__":
    main()

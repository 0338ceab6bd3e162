"""Prints docs/operators.md: `python -m nashquant.quantization.prepare.registry > docs/operators.md`."""

from .page import page

if __name__ == "__main__":
    print(page(), end="")

"""Measuring side by side: rows, rounds, rivals, and what machine it was."""

from .environment import environment
from .interleave import Measured, interleave
from .row import Rival, Row, same_bits

__all__ = ["Measured", "Rival", "Row", "environment", "interleave", "same_bits"]

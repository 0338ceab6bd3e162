"""Quantization-aware training for PyTorch and the NASH BPU."""

from . import quantization
from .march import March, get_march, set_march

__all__ = ["March", "__version__", "get_march", "quantization", "set_march"]

__version__ = "0.1.0"

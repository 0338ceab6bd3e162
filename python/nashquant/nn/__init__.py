"""The modules a float model holds to say where quantization begins, ends, and joins two branches."""

from .float_functional import FloatFunctional
from .stubs import DeQuantStub, QuantStub

__all__ = ["DeQuantStub", "FloatFunctional", "QuantStub"]

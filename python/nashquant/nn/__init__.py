"""The modules a float model holds: where quantization begins, ends and joins two branches; functions as modules."""

from . import functions
from .float_functional import FloatFunctional
from .functions import *  # noqa: F403
from .stubs import DeQuantStub, QuantStub

__all__ = ["DeQuantStub", "FloatFunctional", "QuantStub", *functions.__all__]

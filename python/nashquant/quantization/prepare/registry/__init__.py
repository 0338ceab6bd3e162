"""The op registry: what each torch function and module is on the chip. One entry makes an op known.

An entry says the op's kind (a march says which dtypes each kind takes), the torch names it goes by, the modules that
compute it, and what it fuses with. Capture, fusion, dtypes, replacement, the report, docs/operators.md and the tests of
every op are made from these entries. What has no entry stays float and is reported.
"""

from .entry import Joins, OpEntry
from .lookup import (
    ENTRIES,
    function_entry,
    function_name,
    is_float_functional,
    joins_two,
    known_functions,
    module_entry,
    named_entry,
    qat_class,
    spellings,
)
from .missing import MISSING

__all__ = [
    "ENTRIES",
    "MISSING",
    "Joins",
    "OpEntry",
    "function_entry",
    "function_name",
    "is_float_functional",
    "joins_two",
    "known_functions",
    "module_entry",
    "named_entry",
    "qat_class",
    "spellings",
]

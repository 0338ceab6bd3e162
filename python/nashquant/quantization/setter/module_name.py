"""A setter that speaks for single ops, by name."""

from __future__ import annotations

from collections.abc import Mapping

from nashquant.quantization.prepare.graph import Graph
from nashquant.quantization.prepare.setter import QconfigSetterBase
from nashquant.quantization.qconfig import QConfig

from .near import near

__all__ = ["ModuleNameQconfigSetter"]


class ModuleNameQconfigSetter(QconfigSetterBase):
    """Says how single ops are quantized, by name: module paths and `_generated_<op>_<i>` as in model_check_result.txt.

    A fused op answers to the name of any of its members.

    Raises (in `prepare`):
        ValueError: a name is no op of the model; near names are listed.
    """

    by_name = True

    def __init__(self, module_name_to_qconfig: Mapping[str, QConfig]) -> None:
        if not isinstance(module_name_to_qconfig, Mapping):
            kind = type(module_name_to_qconfig).__name__
            raise TypeError(f"ModuleNameQconfigSetter takes a dict of module name to QConfig, not a {kind}")
        for name, qconfig in module_name_to_qconfig.items():
            if not isinstance(name, str):
                raise TypeError(f"a module name must be a string, not {name!r}")
            if not isinstance(qconfig, QConfig):
                raise TypeError(f"the qconfig of {name!r} must be a QConfig, not {qconfig!r}")
        self.module_name_to_qconfig = dict(module_name_to_qconfig)

    def qconfigs(self, graph: Graph) -> dict[str, QConfig]:
        """The mapping, with names of fused members turned into the names of their ops."""
        ops = graph.names()
        found = {}
        unknown = []
        for name, qconfig in self.module_name_to_qconfig.items():
            key = name.partition("[")[0]
            if key not in ops:
                unknown.append(f"{name!r}{near(key, ops)}")
            elif key == ops[key] or ops[key] not in self.module_name_to_qconfig:
                found[ops[key]] = qconfig
        if unknown:
            raise ValueError(
                f"ModuleNameQconfigSetter names what is no quantized op of the model: {'; '.join(unknown)}"
            )
        return found

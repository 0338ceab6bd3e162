"""Without torch.ao everything works; with it, it knows our classes, whichever was imported first."""

from __future__ import annotations

import subprocess
import sys

WITHOUT = """
import sys
import torch

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("torch.ao", "torchao", "torch.quantization")):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Gone())
for name in [name for name in sys.modules if name.startswith(("torch.ao", "torch.quantization"))]:
    del sys.modules[name]
del torch.ao
"""


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_it_trains_saves_and_loads_when_torch_ao_is_gone() -> None:
    out = run(
        WITHOUT
        + """
import io, pickle
from nashquant.compat import torch_ao
quantizers = torch_ao.default_fake_quant(), torch_ao.default_fused_act_fake_quant()
model = torch.nn.Sequential(torch.nn.Linear(3, 3), *quantizers)
model(torch.randn(5, 3)).sum().backward()
model = pickle.loads(pickle.dumps(model))
model.apply(torch_ao.disable_observer)
model.load_state_dict(model.state_dict())
for name in torch_ao.__all__:
    if name.startswith("default_") and "weight" not in name:
        getattr(torch_ao, name)()
assert not [name for name in sys.modules if name.startswith(("torch.ao", "torchao"))]
print("alone")
"""
    )
    assert out.strip() == "alone"


def test_a_torch_ao_that_comes_later_knows_our_classes() -> None:
    out = run(
        WITHOUT
        + """
import pickle
from nashquant.compat import torch_ao
stored = pickle.dumps(torch_ao.MinMaxObserver())

# A stand-in, as a later import would leave it there.
import types
from abc import ABC
home = types.ModuleType("torch.ao.quantization.observer")
class MinMaxObserver(ABC): ...
home.MinMaxObserver = MinMaxObserver
sys.modules[home.__name__] = home

print(isinstance(pickle.loads(stored), MinMaxObserver), isinstance(torch_ao.MinMaxObserver(), MinMaxObserver))
"""
    )
    assert out.split() == ["True", "True"]


def test_importing_it_imports_no_torchao() -> None:
    assert run("import sys, nashquant.compat.torch_ao; print('torchao' in sys.modules)").strip() == "False"

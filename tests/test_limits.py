"""docs/limits.md: each thing in it happens here, and the message is the one on the page."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.checkpoint import checkpoint

from nashquant import set_march
from nashquant.fx.jit_scheme import dynamic_block
from nashquant.quantization import DeQuantStub, QuantStub, get_qconfig, prepare
from nashquant.quantization.qconfig_template import ModuleNameQconfigSetter, default_qat_qconfig_setter

PAGE = Path(__file__).parents[1] / "docs" / "limits.md"
ROWS = dict(re.findall(r"^\| (.+?) \| `(.+?)` \| .+ \|$", PAGE.read_text(), flags=re.M))
FEW, MORE = torch.randn(2, 4), torch.randn(3, 4)


class Net(nn.Module):
    def __init__(self, body: Callable[..., Any]) -> None:
        super().__init__()
        self.quant, self.dequant, self.act = QuantStub(), DeQuantStub(), nn.ReLU()
        self.body = body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def prepared(body: Callable[..., Any]) -> nn.Module:
    return prepare(Net(body).eval(), FEW, default_qat_qconfig_setter, save_dir=None)


def inside(body: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """A forward with `body` between the stubs."""
    return lambda net, x: net.dequant(body(net.quant(x)))


def traced() -> None:
    prepare(torch.jit.trace(Net(inside(F.relu)), FEW), FEW, default_qat_qconfig_setter, save_dir=None)


def a_part_is_compiled() -> None:
    net = Net(lambda net, x: net.dequant(net.layer(net.quant(x))))
    net.layer = torch.compile(nn.Linear(4, 4), backend="eager")
    prepare(net, FEW, default_qat_qconfig_setter, save_dir=None)


def prepared_twice() -> None:
    prepare(prepared(inside(F.relu)), FEW, default_qat_qconfig_setter, save_dir=None)


def with_history() -> None:
    net = Net(inside(F.relu))
    net.kept = torch.ones(1, requires_grad=True) * 2
    prepare(net, FEW, default_qat_qconfig_setter, save_dir=None)


def with_computed_weight() -> None:
    net = Net(lambda net, x: net.dequant(net.layer(net.quant(x))))
    net.layer = nn.Linear(4, 4)
    prune.l1_unstructured(net.layer, "weight", amount=0.5)
    prepare(net, FEW, default_qat_qconfig_setter, save_dir=None)


class _Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() * 2)


def on_a_view(x: Tensor) -> Tensor:
    y = x + 0
    y[:, 0].mul_(0.5)
    return F.relu(y)


def rounds(x: Tensor) -> Tensor:
    for _ in range(x.shape[0]):
        x = F.relu(x)
    return x


def block(x: Tensor) -> Tensor:
    with dynamic_block():
        return F.relu(x)


def compiled(body: Callable[..., Any], x: Tensor) -> None:
    torch.compile(prepared(body), fullgraph=True, backend="eager")(x)


def load_another() -> None:
    prepared(inside(F.relu)).load_state_dict({"other.weight": torch.ones(1)})


def load_wrapped() -> None:
    model = prepared(inside(F.relu))
    model.load_state_dict(nn.DataParallel(model).state_dict())


def load_a_bad_scale() -> None:
    model = prepared(inside(F.relu))
    model.load_state_dict({**model.state_dict(), "quant.activation_post_process.scale": torch.zeros(1)})


def named_alone() -> None:
    setter = ModuleNameQconfigSetter({"quant": get_qconfig()})
    prepare(Net(inside(F.relu)).eval(), FEW, setter, save_dir=None)


def around_the_corner(x: Tensor, rounds: int) -> Tensor:
    y = F.relu(x)
    return y if rounds == 0 else around_the_corner(y, rounds - 1)


def moved() -> None:
    def read_from(file: str) -> Callable[..., Any]:
        namespace: dict[str, Any] = {"F": F}
        exec(compile("def body(net, x): return net.dequant(F.relu(net.quant(x)))", file, "exec"), namespace)
        return namespace["body"]  # type: ignore[no-any-return]

    model = prepared(read_from("/gone/net.py"))
    model.body = read_from("/now/net.py")  # type: ignore[assignment]
    model(FEW)


WAYS: dict[str, Callable[[], Any]] = {
    "a model in TorchScript": traced,
    "a model, or a part of one, that `torch.compile` gave": a_part_is_compiled,
    "a model that is prepared already": prepared_twice,
    "a tensor with a gradient history in an attribute": with_history,
    "no QuantStub": lambda: prepared(lambda net, x: F.relu(x)),
    "an output without DeQuantStub": lambda: prepared(lambda net, x: F.relu(net.quant(x))),
    "an input that passes by its QuantStub": lambda: prepared(lambda net, x: net.dequant(net.quant(x) + x)),
    "a checkpointed closure": lambda: prepared(
        inside(lambda x: checkpoint(lambda x: F.relu(x), x, use_reentrant=False))
    ),
    "a call with `out=`": lambda: prepared(inside(lambda x: torch.add(x, x, out=torch.empty_like(x)))),
    "a conv or linear whose weight a hook computes": with_computed_weight,
    "an op without an entry": lambda: prepared(inside(torch.i0)),
    "`autograd.Function`, NumPy, a submodule in TorchScript": lambda: prepared(inside(_Twice.apply)),
    "an op that no setter speaks for": named_alone,
    "an in-place call on a view": lambda: prepared(inside(on_a_view)),
    "a call that did not run when recorded": lambda: prepared(
        inside(lambda x: torch.sigmoid(x) if x.shape[0] == 3 else F.relu(x))
    )(MORE),
    "one round of a loop too many": lambda: prepared(inside(rounds))(MORE),
    "a recursion that goes deeper": lambda: prepared(inside(lambda x: around_the_corner(x, x.shape[0])))(MORE),
    "a pickled model whose source file moved": moved,
    "a compiled forward that goes another way": lambda: compiled(
        inside(lambda x: F.relu(F.relu(x) * 2) if x.shape[0] == 3 else F.relu(x)), MORE
    ),
    "`dynamic_block` under `torch.compile`": lambda: compiled(inside(block), FEW),
    "a module called inside and outside the stubs, under `torch.compile`": lambda: compiled(
        lambda net, x: net.act(net.dequant(net.act(net.quant(x)))), FEW
    ),
    "a state dict of another model": load_another,
    "the state dict of a wrapped model": load_wrapped,
    "a state dict with a bad scale or zero point": load_a_bad_scale,
}


def test_every_row_of_the_page_has_a_way_to_it() -> None:
    assert ROWS.keys() == WAYS.keys()
    assert len(ROWS) > 10


@pytest.mark.parametrize("what", WAYS)
def test_the_message_is_the_one_on_the_page(what: str, caplog: pytest.LogCaptureFixture) -> None:
    set_march("nash-m")
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            WAYS[what]()
        except Exception as error:  # whatever it is: its words are what the page promises
            said.append(str(error))
    said += [str(warning.message) for warning in caught] + [record.getMessage() for record in caplog.records]
    pattern = ".*".join(map(re.escape, ROWS[what].split("...")))
    assert any(re.search(pattern, message, flags=re.S) for message in said), f"{ROWS[what]!r} not among {said}"

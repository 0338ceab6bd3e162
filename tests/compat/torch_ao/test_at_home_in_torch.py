"""Compiled, exported, under autocast, checkpointing and averaging: as torch users expect."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.ao.quantization as ao
from tests.quantization.small_net import QuantizedRows
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from nashquant.compat import torch_ao
from nashquant.compat.torch_ao import functional

INT8 = {"quant_min": -128, "quant_max": 127, "dtype": torch.qint8}
NARROW = {"quant_min": -127, "quant_max": 127, "dtype": torch.qint8}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "affine": ({}, INT8),
    "narrow": (NARROW, NARROW),
    "int16": ({"dtype": torch.int16}, {"dtype": torch.int16}),
    "fused": ({}, INT8),
}


class Net(nn.Module):
    """A linear whose weight and output are quantized."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        act, weight = KINDS[kind]
        self.fc = nn.Linear(6, 5)
        quantizer = torch_ao.FusedMovingAvgObsFakeQuantize if kind == "fused" else torch_ao.FakeQuantize
        self.of_output = quantizer(observer=torch_ao.MovingAverageMinMaxObserver, **act)
        self.of_weight = quantizer(
            observer=torch_ao.MovingAveragePerChannelMinMaxObserver, qscheme=torch.per_channel_symmetric, **weight
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.of_output(nn.functional.linear(x, self.of_weight(self.fc.weight), self.fc.bias))


def batch(seed: int = 0) -> Tensor:
    return torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.fixture(params=KINDS)
def net(request: pytest.FixtureRequest) -> Net:
    return Net(request.param)


# torch.compile


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("observing", [True, False])
def test_a_compiled_step_is_the_eager_step(net, started, observing, assert_same_state) -> None:
    torch._dynamo.reset()
    if started or not observing:
        net(batch(9))
    net.apply(torch_ao.enable_observer if observing else torch_ao.disable_observer)
    other = copy.deepcopy(net)
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        for forward, model in ((net, net), (compiled, other)):
            model.zero_grad()
            forward(batch(seed)).square().sum().backward()
        assert torch.equal(other.fc.weight.grad, net.fc.weight.grad)
        assert_same_state(net, other)


@pytest.mark.filterwarnings("ignore:NaN or infinity detected", "ignore:must run observer")
def test_a_compiled_observer_ignores_what_is_not_finite(assert_same_state) -> None:
    torch._dynamo.reset()
    eager, compiled = torch_ao.FakeQuantize(), torch_ao.FakeQuantize()
    step = torch.compile(compiled, fullgraph=True, backend="aot_eager")
    for x in (torch.tensor([float("nan"), 1.0]), torch.tensor([-1.0, 2.0]), torch.tensor([float("inf"), 1.0])):
        eager(x)
        step(x)
        assert_same_state(eager, compiled)


def test_a_switch_is_seen_by_the_compiled_model() -> None:
    torch._dynamo.reset()
    quantizer = torch_ao.FakeQuantize()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    x = torch.tensor([0.1, 1.0, 3.0])
    assert not torch.equal(compiled(x), x)
    quantizer.disable_fake_quant()
    assert torch.equal(compiled(x), x)


@pytest.mark.slow  # builds C++
def test_inductor_gives_the_eager_values(net) -> None:
    torch._dynamo.reset()
    net(batch(9))
    other = copy.deepcopy(net)
    compiled = torch.compile(other, fullgraph=True)
    for seed in range(3):
        torch.testing.assert_close(compiled(batch(seed)), net(batch(seed)), rtol=0, atol=float(net.of_output.scale))


# torch.export


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_model_computes_what_it_did(net, strict) -> None:
    net(batch())
    net.apply(torch_ao.disable_observer)
    program = torch.export.export(
        net.eval(), (batch(),), strict=strict, dynamic_shapes=({0: torch.export.Dim("n", min=2, max=64)},)
    )
    x = torch.cat([batch(1), batch(2)])
    assert torch.equal(program.module()(x), net(x))


def test_an_exporter_obeys_switches_that_were_loaded_or_accelerated() -> None:
    source = ao.FakeQuantize()
    source(batch())
    source.disable_observer()
    loaded = torch_ao.FakeQuantize()
    loaded.load_state_dict(source.state_dict())
    for quantizer in (loaded, torch_ao.accelerate(source)):
        program = torch.export.export(quantizer.eval(), (batch(),))
        calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
        assert calls == [torch.ops.aten.fake_quantize_per_tensor_affine.tensor_qparams]


@pytest.mark.parametrize("kind", ["affine", "fused"])
def test_a_quantizer_is_one_node(kind) -> None:
    net = Net(kind)
    net(batch())
    net.apply(torch_ao.disable_observer)
    program = torch.export.export(net.eval(), (batch(),))
    calls = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert calls == [
        torch.ops.aten.fake_quantize_per_channel_affine.default,
        torch.ops.aten.linear.default,
        torch.ops.aten.fake_quantize_per_tensor_affine.tensor_qparams,
    ]


@pytest.mark.parametrize("points", [torch.int32, torch.float32])
@pytest.mark.parametrize("ends", [(0, 255), (0, 15), (-8, 7), (-(2**15), 2**15 - 1)])
def test_exported_functions_are_the_eager_ones(ends, points) -> None:
    class Function(nn.Module):
        def forward(self, x: Tensor, scale: Tensor, point: Tensor) -> tuple[Tensor, ...]:
            one = functional.fake_quantize_per_tensor_affine(x, 0.1, 1, *ends)
            other = functional.fake_quantize_per_channel_affine(x, scale, point, 0, *ends)
            learned = functional._fake_quantize_learnable_per_tensor_affine(x, scale[:1], point[:1].float(), *ends)
            return one, other, learned

    arguments = (batch() * 10, torch.rand(4) + 0.1, torch.tensor([0, 1, 2, 3]).to(points))
    got = torch.export.export(Function(), arguments).module()(*arguments)
    for g, expected in zip(got, Function()(*arguments), strict=True):
        assert torch.equal(g, expected)


@pytest.mark.parametrize("kind", ["affine", "fused"])
def test_an_exported_model_trains_as_the_model_does(kind) -> None:
    net = Net(kind)
    net(batch())
    net.apply(torch_ao.disable_observer)
    other = copy.deepcopy(net)
    program = torch.export.export(other, (batch(),)).module()
    net(batch(1)).square().sum().backward()
    program(batch(1)).square().sum().backward()
    assert torch.equal(other.fc.weight.grad, net.fc.weight.grad)  # the program trains the weights it was made of


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_onnx_runtime_computes_what_the_model_did(net, tmp_path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    net(batch())
    net.apply(torch_ao.disable_observer)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net.eval(), (batch(),), dynamo=True, verbose=False).save(path)
    session = runtime.InferenceSession(path)
    (y,) = session.run(None, {session.get_inputs()[0].name: batch(1).numpy()})
    # QuantizeLinear divides by the scale, torch multiplies by its inverse: a step at most.
    torch.testing.assert_close(torch.from_numpy(y), net(batch(1)), rtol=0, atol=1.001 * float(net.of_output.scale))


# TorchScript


def test_torch_jit_script_is_refused_and_told_where_to_go() -> None:
    for module in (torch_ao.HistogramObserver(), nn.Sequential(torch_ao.FakeQuantize())):
        with pytest.raises(RuntimeError, match=r"can't be compiled by torch\.jit\.script.* use torch\.compile"):
            torch.jit.script(module)


# Worker processes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork
@pytest.mark.parametrize(("name", "start"), [("FakeQuantize", "fork"), ("FusedMovingAvgObsFakeQuantize", "spawn")])
def test_quantizers_work_in_the_workers_of_a_data_loader(name, start) -> None:
    torch.set_num_threads(2)  # whose threads a fork does not have
    quantizer = getattr(torch_ao, name)()
    quantizer(torch.randn(2**18))
    quantizer.disable_observer()
    rows = QuantizedRows(copy.deepcopy(quantizer), torch.randn(4, 2**17))
    loader = DataLoader(rows, batch_size=2, num_workers=2, multiprocessing_context=start)
    assert torch.equal(torch.cat(list(loader)), quantizer(rows.x))


# Training


def test_under_autocast_quantizers_see_bf16_and_keep_f32_scales(net) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        y = net(batch())
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert net.of_output.scale.dtype == net.of_output.activation_post_process.min_val.dtype == torch.float32
    assert net.fc.weight.grad.isfinite().all()


def test_gradient_checkpointing_changes_no_gradient(net) -> None:
    net(batch())
    net.apply(torch_ao.disable_observer)
    other = copy.deepcopy(net)
    net(batch(1)).square().sum().backward()
    checkpoint(other, batch(1), use_reentrant=False).square().sum().backward()
    assert torch.equal(other.fc.weight.grad, net.fc.weight.grad)


def checkpointed(net: nn.Module, x: Tensor) -> Tensor:
    # What comes last is not computed once more: its output is there. So something stands behind the quantizers.
    return checkpoint(lambda x: net(x).sigmoid(), x, use_reentrant=False)


def test_what_a_checkpoint_computes_once_more_is_not_observed_again(net, assert_same_state) -> None:
    other, exact = copy.deepcopy(net), copy.deepcopy(net)
    for seed in range(3):
        net.zero_grad()
        net(batch(seed)).sigmoid().square().sum().backward()
        other.zero_grad()
        checkpointed(other, batch(seed)).square().sum().backward()
        assert torch.equal(other.fc.weight.grad, net.fc.weight.grad)
        assert_same_state(net, other)
    with torch_ao.exact_parity():
        for seed in range(3):
            checkpointed(exact, batch(seed)).square().sum().backward()
    twice, once = (n.of_output.activation_post_process for n in (exact, net))
    assert not torch.equal(twice.max_val, once.max_val)


def test_averaged_models_carry_their_scales(net, assert_same_state) -> None:
    net(batch())
    averaged = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    net(batch(1) * 9)
    averaged.update_parameters(net)
    assert_same_state(net, averaged.module)


def test_a_grad_scaler_scales_gradients_through(net) -> None:
    net(batch())
    net.apply(torch_ao.disable_observer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    other = copy.deepcopy(net)
    net(batch()).square().sum().backward()
    scaler.scale(other(batch()).square().sum()).backward()
    torch.testing.assert_close(other.fc.weight.grad, net.fc.weight.grad * 4)


def test_meta_tensors_pass_and_move_nothing() -> None:
    quantizer = torch_ao.FakeQuantize().to("meta")
    quantizer.disable_observer()
    y = quantizer(torch.empty(2, 3, device="meta"))
    assert (y.shape, y.device.type) == ((2, 3), "meta")


def test_an_observer_sees_nothing_on_meta(net) -> None:
    net.to("meta")(torch.empty(4, 6, device="meta")).sum().backward()
    for kind in ("MinMaxObserver", "PerChannelMinMaxObserver", "HistogramObserver"):
        observer, x = getattr(torch_ao, kind)().to("meta"), torch.empty(4, 6, device="meta")
        assert observer(x) is x


@pytest.mark.parametrize("kind", ["MinMaxObserver", "PerChannelMinMaxObserver", "HistogramObserver"])
def test_a_range_can_not_move_under_torch_func(kind) -> None:
    quantizer = torch_ao.FakeQuantize(observer=torch_ao.MinMaxObserver)
    for module in (getattr(torch_ao, kind)(), quantizer):
        with pytest.raises(RuntimeError, match=r"torch\.func is at work, which can't move a range"):
            torch.func.vmap(module)(batch())
    quantizer(batch())
    quantizer.disable_observer()
    assert torch.equal(torch.func.vmap(quantizer)(batch()), quantizer(batch()))

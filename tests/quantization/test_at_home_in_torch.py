"""A prepared model under what torch users do with models: autocast, averaging, checkpointing, saving, torch.func."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from nashquant import set_march
from nashquant.quantization import DeQuantStub, FakeQuantize, QuantStub, prepare, set_fake_quantize
from nashquant.quantization.observer import HistogramObserver, MSEObserver
from nashquant.quantization.qconfig_template import default_qat_qconfig_setter

from .small_net import QuantizedRows, images, in_training, in_validation, prepared, scales


def step(model: Any, x: Tensor) -> Tensor:
    """The gradient of the convolution."""
    model.zero_grad()
    model(x).square().sum().backward()
    return model.conv.weight.grad.clone()


def assert_same_scales(one: nn.Module, other: nn.Module) -> None:
    expected = scales(other)
    for name, scale in scales(one).items():
        assert torch.equal(scale, expected[name]), name


# Compilers and exporters


def test_a_compiled_step_of_training_is_the_eager_step() -> None:
    eager, other = in_training(), in_training()
    compiled = torch.compile(other, fullgraph=True, backend="aot_eager")
    for seed in range(2):
        gradient = step(eager, images(seed))
        other.zero_grad()
        compiled(images(seed)).square().sum().backward()
        assert torch.equal(other.conv.weight.grad, gradient)
        assert_same_scales(other, eager)


STRICT_SAYS = pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects")  # the mode's scope


@STRICT_SAYS
@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_model_takes_any_batch(strict: bool) -> None:
    model = in_validation()
    batch = torch.export.Dim("n", min=2, max=64)
    program = torch.export.export(model, (images(),), dynamic_shapes=({0: batch},), strict=strict)
    assert torch.equal(program.module()(images(1, 5)), model(images(1, 5)))


class Operators(nn.Module):
    """Arithmetic as it is written, which a strict export shows as functions of the module `operator`."""

    def __init__(self) -> None:
        super().__init__()
        self.quant, self.dequant = QuantStub(), DeQuantStub()

    def forward(self, x: Tensor) -> Tensor:
        x = self.quant(x)
        y = (x + x[:, :1]) * (3 - x) / 2 + 1 / (x.abs() + 2) - (-x) ** 2
        y = y @ x.transpose(0, 1)
        y += x[:, :1]
        y *= 2
        y[0] = x[0, :3]
        return self.dequant(y)  # type: ignore[no-any-return]


def operators() -> Any:
    """In QAT; its batch is 3."""
    set_march("nash-p")
    model = prepare(Operators(), torch.randn(3, 3), (default_qat_qconfig_setter,), save_dir=None)
    set_fake_quantize(model.train(), "qat")
    model(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))
    set_fake_quantize(model.eval(), "validation")
    return model


@STRICT_SAYS
def test_a_strict_export_has_every_operator_quantized() -> None:
    model, x = operators(), torch.randn(3, 3)
    programs = [torch.export.export(model, (x,), strict=strict) for strict in (True, False)]
    strict, other = ([n.target for n in p.graph.nodes if n.op == "call_function"] for p in programs)
    assert strict == other
    assert torch.equal(programs[0].module()(x * 2), model(x * 2))


def test_a_compiled_step_has_every_operator_quantized() -> None:
    model, x = operators(), torch.randn(3, 3, requires_grad=True)
    other = x.detach().clone().requires_grad_()
    y, z = model(x), torch.compile(model, fullgraph=True, backend="aot_eager")(other)
    assert torch.equal(z, y)
    y.square().sum().backward()
    z.square().sum().backward()
    assert torch.equal(other.grad, x.grad)


def test_an_exported_model_trains_as_the_model_does() -> None:
    model, other = in_validation(), in_validation()
    program = torch.export.export(other, (images(),)).module()
    gradient = step(model, images(1))
    program(images(1)).square().sum().backward()
    assert torch.equal(other.conv.weight.grad, gradient)  # the program trains the weights it was made of
    assert gradient.abs().sum() > 0


# Precision


def test_under_autocast_quantizers_see_bf16_and_keep_f32_scales() -> None:
    model = in_training()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(images())
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert {scale.dtype for scale in scales(model).values()} == {torch.float32}
    assert model.conv.weight.grad.isfinite().all()


def test_autocast_moves_the_scores_little() -> None:
    model = in_validation()
    with torch.no_grad():
        expected = model(images())
        with torch.autocast("cpu", torch.bfloat16):
            got = model(images()).float()
    torch.testing.assert_close(got, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_model_of_another_float_type_trains(dtype: torch.dtype) -> None:
    model = in_training().to(dtype)
    gradient = step(model, images().to(dtype))
    assert gradient.dtype == dtype
    assert gradient.abs().sum() > 0
    assert {scale.dtype for scale in scales(model).values()} == {torch.float32}


def test_a_grad_scaler_scales_gradients_through() -> None:
    model, other = in_training(), in_training()
    gradient = step(model, images())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(other(images()).square().sum()).backward()
    assert torch.equal(other.conv.weight.grad, gradient * 4)


def test_a_grad_scaler_skips_a_step_that_overflowed() -> None:
    model = in_training()
    before = model.conv.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1.5 * 2.0**127)
    scaler.scale(model(images()).square().sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(model.conv.weight, before)
    assert scaler.get_scale() == 0.75 * 2.0**127


# Averages of weights


def averaged_over_three_steps(model: Any) -> AveragedModel:
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for seed in range(3):
        step(model, images(seed))
        optimizer.step()
        averaged.update_parameters(model)
    return averaged


def test_an_averaged_model_has_the_latest_scales_and_a_life_of_its_own() -> None:
    model = in_training()
    averaged = averaged_over_three_steps(model)
    assert_same_scales(averaged.module, model)
    assert not torch.equal(averaged.module.conv.weight, model.conv.weight)
    step(model, images(9) * 10)
    assert not torch.equal(
        averaged.module.quant.activation_post_process.scale, model.quant.activation_post_process.scale
    )


def test_calibrating_an_averaged_model_gives_its_weights_their_scales() -> None:
    averaged = averaged_over_three_steps(in_training()).module.eval()
    weight, quantizer = averaged.conv.weight, averaged.conv.weight_fake_quant
    wanted = weight.detach().abs().amax((1, 2, 3)) / 127.5
    assert not torch.equal(quantizer.scale, wanted)
    set_fake_quantize(averaged, "calibration")
    with torch.no_grad():
        averaged(images())
    assert torch.equal(quantizer.scale, wanted)


def test_a_model_averaged_before_it_was_calibrated_knows_its_scales() -> None:
    model = prepared()
    averaged = AveragedModel(model)
    set_fake_quantize(model.train(), "qat")
    model(images())
    averaged.update_parameters(model)
    set_fake_quantize(averaged.module.eval(), "validation")  # would warn of scales never set
    averaged(images())


# Gradient checkpointing


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpoint_observes_once_and_changes_no_gradient(reentrant: bool) -> None:
    plain, other = in_training(), in_training()
    for seed in range(2):
        gradient = step(plain, images(seed) * 3)
        other.zero_grad()
        x = (images(seed) * 3).requires_grad_(reentrant)
        checkpoint(other, x, use_reentrant=reentrant).square().sum().backward()
        assert torch.equal(other.conv.weight.grad, gradient)
        assert_same_scales(other, plain)


@pytest.mark.parametrize("observer", [MSEObserver, HistogramObserver])
def test_other_observers_look_once_too(observer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, other = FakeQuantize(observer, averaging_constant=0.5), FakeQuantize(observer, averaging_constant=0.5)
    looks, observe = [], other.activation_post_process.observe
    monkeypatch.setattr(other.activation_post_process, "observe", lambda x: looks.append(x) or observe(x))
    for seed in range(3):
        x = images(seed) * (seed + 1)
        plain(x)
        checkpoint(lambda x: other(x).square(), x.requires_grad_(), use_reentrant=False).sum().backward()
        assert torch.equal(other.scale, plain.scale)
        assert len(looks) == seed + 1  # a histogram that counts all twice has the same scale


# Saving and loading


def test_a_file_loads_with_weights_only() -> None:
    model, other, file = in_training(), prepared(), io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.eval()(images()), model.eval()(images()))


def test_safetensors_hold_all_of_it(tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    model, path = in_training(), tmp_path / "model.safetensors"
    safetensors.save_model(model, path)
    by_model, by_state = prepared(), prepared()
    safetensors.load_model(by_model, path)
    by_state.load_state_dict(safetensors.load_file(path))
    expected = model.eval()(images())
    assert torch.equal(by_model.eval()(images()), expected)
    assert torch.equal(by_state.eval()(images()), expected)


# Tensors without values


@pytest.mark.parametrize("make", [in_training, in_validation])
def test_on_meta_there_are_shapes_and_nothing_moves(make: Any) -> None:
    model = make().to("meta")
    y = model(images().to("meta"))
    y.sum().backward()
    assert (y.shape, y.device.type, model.conv.weight.grad.device.type) == ((8, 3), "meta", "meta")


@pytest.mark.parametrize("assign", [True, False])
def test_a_model_from_meta_takes_a_checkpoint(assign: bool) -> None:
    source, model = in_validation(), prepared().to("meta")
    if not assign:
        model = model.to_empty(device="cpu")
    model.load_state_dict(source.state_dict(), assign=assign)
    assert torch.equal(model.eval()(images()), source(images()))


# torch.func


def test_gradients_for_each_sample_are_those_of_single_samples() -> None:
    model = in_validation()
    weights = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(model, weights, (x[None],)).square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, images())["conv.weight"]
    for x, got in zip(images(), each, strict=True):
        torch.testing.assert_close(got, step(model, x[None]))


def test_a_range_can_not_move_under_torch_func() -> None:
    model = in_training()
    before = scales(model)
    for transform in (torch.func.vmap, torch.func.grad):
        with pytest.raises(RuntimeError, match=r"torch\.func is at work.*'quant'.*Turn the observer off first"):
            transform(lambda x: model(x.reshape(-1, 1, 6, 6)).sum())(images())
    assert all(torch.equal(scale, before[name]) for name, scale in scales(model).items())


def test_forward_derivatives_are_refused_as_torch_refuses_them() -> None:
    quantizer = in_validation().quant.activation_post_process
    for function in (quantizer, lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127)):
        with pytest.raises(NotImplementedError):
            torch.func.jvp(function, (images(),), (images(),))


def test_a_second_derivative_is_that_of_straight_through() -> None:
    quantizer = in_validation().quant.activation_post_process
    x = torch.tensor([0.3, 99.0], requires_grad=True)
    (first,) = torch.autograd.grad(quantizer(x).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert second.tolist() == [2.0, 0.0]


def test_gradcheck_holds_where_the_function_is_flat() -> None:
    quantizer = in_validation().quant.activation_post_process
    x = torch.tensor([500.0, -500.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(quantizer, x)


# Worker processes


@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork
def test_quantizers_work_in_the_workers_of_a_data_loader(start: str) -> None:
    torch.set_num_threads(2)  # whose threads a fork does not have
    quantizer = FakeQuantize()
    quantizer(torch.randn(2**18))
    quantizer.disable_observer()
    rows = QuantizedRows(copy.deepcopy(quantizer), torch.randn(4, 2**17))
    loader = DataLoader(rows, batch_size=2, num_workers=2, multiprocessing_context=start)
    assert torch.equal(torch.cat(list(loader)), quantizer(rows.x))

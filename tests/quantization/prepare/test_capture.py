"""Which calls are seen, how they are named, and that the float numbers stay what they were."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nashquant.dtype import qint8
from nashquant.quantization import (
    DeQuantStub,
    QuantStub,
    UnknownOpWarning,
    UnrecordedCallError,
    check_result_of,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.prepare import CheckpointedCallError
from nashquant.quantization.qconfig_template import default_calibration_qconfig_setter

Around = Callable[..., tuple[nn.Module, Any]]


def names(prepared: nn.Module) -> list[str]:
    return [row.name for row in check_result_of(prepared).layers][1:-1]


def in_place(self: nn.Module, x: Tensor) -> Tensor:
    x = x * 1
    x += 1
    x.mul_(2)
    half = x[:, :2]
    half += 1
    return x


def loop(self: nn.Module, x: Tensor) -> Tensor:
    for _ in range(3):
        x = x * 0.5
    return x


def twice_on_a_line(self: nn.Module, x: Tensor) -> Tensor:
    return F.relu(x) + F.relu(-x)


def _helper(x: Tensor) -> Tensor:
    return x * 2


def through_a_helper(self: nn.Module, x: Tensor) -> Tensor:
    return _helper(_helper(x))


SPELLINGS = {
    "x + 1": (lambda s, x: x + 1, ["_generated_add_0"]),
    "1 - x": (lambda s, x: 1 - x, ["_generated_sub_0"]),
    "2 / (x + 9)": (lambda s, x: 2 / (x + 9), ["_generated_add_0", "_generated_div_0"]),
    "torch.add": (lambda s, x: torch.add(x, x), ["_generated_add_0"]),
    "mul method": (lambda s, x: x.mul(x), ["_generated_mul_0"]),
    "sub keyword": (lambda s, x: torch.sub(input=x, other=x * 2), ["_generated_mul_0", "_generated_sub_0"]),
    "matmul": (lambda s, x: x @ x.transpose(2, 3), ["_generated_matmul_0"]),
    "bmm": (lambda s, x: torch.bmm(x[0], x[1]), ["_generated_bmm_0"]),
    "cat": (lambda s, x: torch.cat([x, x], 1), ["_generated_cat_0"]),
    "stack": (lambda s, x: torch.stack((x, x)), ["_generated_stack_0"]),
    "relu": (lambda s, x: F.relu(x), ["_generated_relu_0"]),
    "sigmoid": (lambda s, x: x.sigmoid(), ["_generated_sigmoid_0"]),
    "softmax": (lambda s, x: x.softmax(1), ["_generated_softmax_0"]),
    "layer_norm": (lambda s, x: F.layer_norm(x, (6,)), ["_generated_layer_norm_0"]),
    "gelu": (lambda s, x: F.gelu(x), ["_generated_gelu_0"]),
    "silu": (lambda s, x: F.silu(x), ["_generated_silu_0"]),
    "tanh": (lambda s, x: torch.tanh(x), ["_generated_tanh_0"]),
    "mean": (lambda s, x: x.mean((2, 3)), ["_generated_mean_0"]),
    "sum": (lambda s, x: torch.sum(x, 1), ["_generated_sum_0"]),
    "two-operand max": (lambda s, x: torch.max(x, x * 2), ["_generated_mul_0", "_generated_maximum_0"]),
    "clamp": (lambda s, x: x.clamp(-1, 1), ["_generated_clamp_0"]),
    "conv2d": (lambda s, x: F.conv2d(x, torch.ones(1, 4, 1, 1)), ["_generated_conv2d_0"]),
    "interpolate": (lambda s, x: F.interpolate(x, scale_factor=2.0), []),
    "shapes": (lambda s, x: x.flatten(1).view(2, 4, 36).permute(0, 2, 1)[:, 1:].unsqueeze(1).chunk(2, -1)[0], []),
    "max pool, topk": (lambda s, x: F.max_pool2d(x, 2).flatten(1).topk(3)[0], []),
    "in-place dropout": (lambda s, x: F.dropout(x, 0.5, False, True), []),
    "loop": (loop, ["_generated_mul_0", "_generated_mul_1", "_generated_mul_2"]),
    "one line": (
        twice_on_a_line,
        ["_generated_relu_0", "_generated_neg_0", "_generated_relu_1", "_generated_add_0"],
    ),
    "helper": (through_a_helper, ["_generated_mul_0", "_generated_mul_1"]),
    "in place": (in_place, ["_generated_mul_0", "_generated_add_0", "_generated_mul_1", "_generated_add_1"]),
    "inplace argument": (lambda s, x: F.relu(x, True) + F.relu(x, inplace=True), [
        *("_generated_relu_0", "_generated_relu_1", "_generated_add_0")
    ]),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_call_gets_a_module_and_keeps_its_float_numbers(spelling: str, around: Around, x: Tensor) -> None:
    body, expected = SPELLINGS[spelling]
    model, prepared = around(body, x)
    assert [name.partition("[")[0] for name in names(prepared)] == expected
    quantized = prepared(x)
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(x), model(x))
    if expected:
        assert not torch.equal(quantized, prepared(x))
    torch.testing.assert_close(quantized, model(x), atol=0.25, rtol=0.1)


def test_in_place_methods_still_change_their_operand(around: Around, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        y = x + 0
        y.add_(1)  # the result is not used: only the change in place is
        return y

    model, prepared = around(body, x)
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def test_a_branch_on_shape_and_another_batch_size_run(around: Around, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        if x.shape[0] > 8:
            return x
        return F.relu(x)

    model, prepared = around(body, x)
    more = torch.randn(5, 4, 6, 6)
    torch.testing.assert_close(prepared(more), model(more), atol=0.1, rtol=1)


def test_a_call_never_seen_at_prepare_is_an_error_that_says_where(around: Around, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        if x.shape[0] > 2:
            x = torch.sigmoid(x)
        return F.relu(x)

    _, prepared = around(body, x)
    with pytest.raises(UnrecordedCallError, match=r"sigmoid at .*test_capture\.py:\d+ \(in Around\).*example inputs"):
        prepared(torch.randn(3, 4, 6, 6))
    prepared(x)  # still whole


def test_a_loop_that_runs_longer_than_at_prepare_is_an_error(around: Around, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        for _ in range(x.shape[0]):
            x = x * 0.5
        return x

    _, prepared = around(body, x)
    prepared(x[:1])
    with pytest.raises(UnrecordedCallError, match="mul at"):
        prepared(torch.randn(3, 4, 6, 6))


def test_a_module_that_did_not_run_at_prepare_is_not_silently_float(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        return self.conv(x) if x.shape[0] > 2 else x

    _, prepared = around(body, x, conv=nn.Conv2d(4, 4, 1))
    with pytest.raises(UnrecordedCallError, match="conv2d at"):
        prepared(torch.randn(3, 4, 6, 6))


def test_calls_outside_the_stubs_are_left_alone(x: Tensor) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant, self.dequant = QuantStub(), DeQuantStub()
            self.before, self.after = nn.Conv2d(4, 4, 1), nn.ReLU()

        def forward(self, x: Tensor, target: Tensor | None = None) -> Tensor:
            y = self.dequant(F.relu(self.quant(self.before(x) * 3)))
            y = self.after(y + 1)
            return y if target is None else F.mse_loss(y, target) * 2

    prepared = prepare(Net(), x, default_calibration_qconfig_setter, save_dir=None)
    assert names(prepared)[:1] == ["_generated_relu_0"]
    assert type(prepared.before) is nn.Conv2d
    assert type(prepared.after) is nn.ReLU
    assert check_result_of(prepared).called_times == ()
    set_fake_quantize(prepared, "qat")
    assert prepared(x, torch.zeros(2, 4, 6, 6)).dim() == 0  # calls never recorded, but not quantized either


def test_an_unknown_op_stays_float_is_named_and_warned_about(around: Around, x: Tensor) -> None:
    with pytest.warns(UnknownOpWarning, match=r"does not know 2 op\(s\).*\[i0\], \[fft_rfft\]|fft_rfft"):
        model, prepared = around(lambda s, x: torch.fft.rfft(torch.i0(x)).real + 1, x)
    result = check_result_of(prepared)
    assert ("[i0]", 1) in result.float_ops
    assert "i0" in str(result)
    assert any("a float tensor enters a quantized op" in message for _, _, message in result.messages)
    torch.testing.assert_close(prepared(x), model(x), atol=0.5, rtol=0.1)


def test_an_unknown_op_that_gives_integers_is_named_too(around: Around, x: Tensor) -> None:
    edges = torch.tensor([0.0, 1.0])
    with pytest.warns(UnknownOpWarning, match=r"does not know 1 op\(s\).*\[bucketize\]"):
        model, prepared = around(lambda s, x: F.relu(x) * (torch.bucketize(x, edges) > 0), x)
    assert check_result_of(prepared).float_ops == (("[bucketize]", 1),)
    torch.testing.assert_close(prepared(x), model(x), atol=0.05, rtol=0)


def test_an_unknown_op_that_was_not_recorded_is_an_error_at_run_time(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        return F.relu(torch.i0(x) if self.training else x)

    _, prepared = around(body, x)
    prepared(x)
    with pytest.raises(UnrecordedCallError, match=r"i0 at .*test_capture.py:\d+ \(in Around\) meets a quant"):
        prepared.train()(x)


def test_an_unknown_op_that_was_recorded_runs_again(around: Around, x: Tensor) -> None:
    with pytest.warns(UnknownOpWarning, match="i0"):
        model, prepared = around(lambda s, x: torch.stack([torch.i0(row) for row in x]), x)
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0.1)
    assert copy.deepcopy(prepared)(x).shape == model(x).shape


def test_comparing_and_ranking_is_known(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: x * ((x > 0) & (x.argmax(1, keepdim=True) >= 0)).float(), x)
    assert check_result_of(prepared).float_ops == ()
    assert names(prepared) == ["_generated_mul_0"]


def test_rows_of_a_tensor_are_moved_values(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: torch.stack([F.relu(row) for row in x]), x)
    assert names(prepared) == ["_generated_relu_0", "_generated_relu_1", "_generated_stack_0"]


def test_the_gain_of_a_norm_is_no_activation(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: F.layer_norm(x, (6,), s.gain, s.gain), x, gain=nn.Parameter(torch.rand(6)))
    assert prepared._generated_layer_norm_0.operand_fake_quant is None
    assert [list(row.input_dtypes) for row in check_result_of(prepared).layers[1:2]] == [[qint8]]


def test_a_float_functional_is_one_op_under_its_own_name(around: Around, x: Tensor) -> None:
    functional = pytest.importorskip("torch.ao.nn.quantized").FloatFunctional()
    model, prepared = around(lambda s, x: s.join.add(x, F.relu(x)), x, join=functional)
    assert names(prepared) == ["_generated_relu_0", "join[add]"]
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def test_constants_get_quantizers_of_their_own(around: Around, x: Tensor) -> None:
    body = lambda s, x: torch.cat([x * s.gain, s.extra], 1)  # noqa: E731
    model, prepared = around(body, x, gain=nn.Parameter(torch.rand(4, 1, 1)), extra=torch.randn(2, 1, 6, 6))
    assert list(prepared._generated_mul_0.operand_fake_quant) == ["1"]
    assert list(prepared._generated_cat_0.operand_fake_quant) == ["0_1"]
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def test_an_embedding_that_meets_a_quantized_tensor_is_quantized(around: Around) -> None:
    x = torch.randn(3, 6)
    model, prepared = around(lambda s, x: x + s.table(torch.arange(3)), x, table=nn.Embedding(3, 6))
    assert names(prepared) == ["table", "_generated_add_0"]
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def test_an_embedding_that_goes_through_a_stub_stays_float() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.quant, self.dequant = nn.Embedding(5, 4), QuantStub(), DeQuantStub()

        def forward(self, index: Tensor) -> Tensor:
            return self.dequant(F.relu(self.quant(self.table(index))))

    prepared = prepare(Net(), torch.arange(5), default_calibration_qconfig_setter, save_dir=None)
    assert type(prepared.table) is nn.Embedding


def test_a_resampled_tensor_keeps_the_grid_of_its_input(around: Around, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        return F.interpolate(F.relu(x), scale_factor=2.0, mode="bilinear")

    _, prepared = around(body, x)
    scale = prepared._generated_relu_0.activation_post_process.scale
    steps = prepared(x) / scale
    assert torch.equal(steps.round() * scale, prepared(x))
    assert len([key for key in prepared.state_dict() if key.endswith("scale")]) == 2  # quant, relu; not a third


class Sub(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) + 1


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_module_is_quantized_in_its_recomputation_too(
    reentrant: bool, x: Tensor, around: Around
) -> None:
    def plain(self: Any, x: Tensor) -> Tensor:
        return self.sub(x)

    def saving(self: Any, x: Tensor) -> Tensor:
        return checkpoint(self.sub, x, use_reentrant=reentrant)

    grads = []
    for body in (plain, saving):
        _, prepared = around(body, x, sub=Sub())
        leaf = (x * 1.7).requires_grad_()
        (prepared(leaf) ** 2).sum().backward()
        grads.append(leaf.grad)
    assert torch.equal(grads[0], grads[1])
    assert grads[0].abs().sum() > 0


def test_a_checkpointed_closure_is_refused(around: Around, x: Tensor) -> None:
    def body(self: nn.Module, x: Tensor) -> Tensor:
        return checkpoint(lambda x: F.relu(x) + 1, x, use_reentrant=False)

    with pytest.raises(CheckpointedCallError, match=r"relu at .*test_capture.*put it into an nn\.Module"):
        around(body, x)


def test_example_inputs_that_do_not_run_are_an_error_that_shows_the_cause(around: Around, x: Tensor) -> None:
    with pytest.raises(ValueError, match="Around fails on the example inputs given to prepare: RuntimeError"):
        around(lambda s, x: x @ torch.ones(7), x)


def test_a_dict_of_keyword_inputs_among_the_positional_ones_is_pointed_elsewhere(x: Tensor) -> None:
    class ByName(nn.Module):
        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return left + right

    with pytest.raises(
        ValueError, match=r"TypeError: .*'right' \(a dict is one positional input: .* example_kw_inputs\)$"
    ):
        prepare(ByName(), {"left": x, "right": x}, default_calibration_qconfig_setter, save_dir=None)


def test_missing_stubs_are_errors(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"no QuantStub ran.*each output through a DeQuantStub$"):
        prepare(nn.ReLU(), x, default_calibration_qconfig_setter, save_dir=None)
    traced = torch.fx.symbolic_trace(nn.Sequential(QuantStub(), nn.ReLU(), DeQuantStub()))
    with pytest.raises(ValueError, match=r"no QuantStub ran.*DeQuantStub\. A traced or exported model has lost"):
        prepare(traced, x, default_calibration_qconfig_setter, save_dir=None)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quant = QuantStub()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, F.relu(self.quant(x))

    with pytest.raises(ValueError, match=r"output 1 of the model is still quantized \(made by '_generated_relu_0'\)"):
        prepare(Net(), x, default_calibration_qconfig_setter, save_dir=None)

"""Code that runs twice, inside and outside the stubs, in place, or hidden: nobody gets another one's scale."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nashquant.dtype import qint8
from nashquant.nn import FloatFunctional
from nashquant.quantization import (
    CalibrationWarning,
    DeQuantStub,
    QuantStub,
    UnknownOpWarning,
    UnrecordedCallError,
    check_result_of,
    get_qconfig,
    prepare,
    set_fake_quantize,
)
from nashquant.quantization.qconfig_template import (
    ModuleNameQconfigSetter,
    calibration_8bit_weight_16bit_act_qconfig_setter,
    default_qat_qconfig_setter,
)

Around = Callable[..., tuple[nn.Module, Any]]


class Net(nn.Module):
    """`body(self, x)`, with stubs and children of its own: code before, between and after the stubs."""

    def __init__(self, body: Callable[..., Any], **children: nn.Module) -> None:
        super().__init__()
        self.quant, self.quant2, self.dequant = QuantStub(), QuantStub(), DeQuantStub()
        self.body = body
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.body(self, *args, **kwargs)


def prepared_net(x: Any, body: Callable[..., Any], **children: nn.Module) -> tuple[Net, Any]:
    model = Net(body, **children).eval()
    prepared = prepare(model, x, default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(prepared, "qat")
    with torch.no_grad():
        prepared.train()(*x if isinstance(x, tuple) else (x,))
    set_fake_quantize(prepared.eval(), "validation")
    return model, prepared


class Block(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x * 2)


def test_a_block_called_twice_has_one_module_for_each_of_its_calls(around: Around, x: Tensor) -> None:
    model, prepared = around(lambda s, x: s.block(s.block(x)), x, block=Block())
    names = [row.name for row in check_result_of(prepared).layers][1:-1]
    assert names == [
        "block._generated_mul_0",
        "block._generated_relu_0",
        "block._generated_mul_0(1)",
        "block._generated_relu_0(1)",
    ]
    assert [name for name, _ in prepared.block.named_children()] == ["_generated_mul_0", "_generated_relu_0"]
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(x), model(x))


def test_a_module_used_outside_the_stubs_too_stays_float_there(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = self.dequant(self.relu(self.conv(self.quant(x))))
        return self.relu(y * 1000) + self.conv(x)

    model, prepared = prepared_net(x, body, relu=nn.ReLU(), conv=nn.Conv2d(4, 4, 1))
    assert prepared.relu.also_float
    inner = prepared.dequant(prepared.relu(prepared.conv(prepared.quant(x))))
    assert torch.equal(prepared(x), F.relu(inner * 1000) + model.conv(x))


def test_a_conv_used_outside_the_stubs_too_is_not_folded(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        return self.dequant(self.bn(self.conv(self.quant(x)))) + self.conv(x)

    model, prepared = prepared_net(x, body, conv=nn.Conv2d(4, 4, 1), bn=nn.BatchNorm2d(4))
    assert torch.equal(prepared.conv.weight, model.conv.weight)


def test_float_calls_before_the_stubs_and_in_one_loop_are_told_apart(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        x = (x - 0.5) * 4
        results = []
        for value in (x, self.quant(x)):
            results.append(F.relu(value * 0.5))
        return results[0] + self.dequant(results[1])

    model, prepared = prepared_net(x, body)
    torch.testing.assert_close(prepared(x), model(x), atol=0.05, rtol=0)
    compiled = torch.compile(prepared, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), prepared(x))


def test_a_compiled_forward_that_goes_another_way_is_refused(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = self.quant(x)
        y = F.relu(F.relu(y) * 2) if x.shape[0] > 2 else F.relu(y)
        return self.dequant(y)

    _, prepared = prepared_net(x, body)
    with pytest.raises(Exception, match=r"the compiled forward of Net calls relu 2 times, prepare recorded 1"):
        torch.compile(prepared, fullgraph=True, backend="eager")(torch.randn(3, 4, 6, 6))


@pytest.mark.parametrize("inplace", ["function", "argument", "module", "method"])
def test_an_in_place_call_whose_operand_is_used_again_changes_it(inplace: str, around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = x + 0
        if inplace == "function":
            F.relu_(y)
        elif inplace == "argument":
            F.relu(y, inplace=True)
        elif inplace == "module":
            self.relu(y)
        else:
            y.relu_()
        return y * 1

    model, prepared = around(body, x, relu=nn.ReLU(inplace=True))
    torch.testing.assert_close(prepared(x), model(x), atol=0.05, rtol=0)
    set_fake_quantize(prepared, "float")
    torch.testing.assert_close(prepared(x), model(x))


def test_in_place_calls_in_a_row_all_change_what_they_began_with(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = x + 0
        F.relu_(y.mul_(2.0).sub_(0.5))  # each on the handle that the one before gave
        return y * 1

    model, prepared = around(body, x)
    assert check_result_of(prepared).float_ops == ()
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)
    set_fake_quantize(prepared, "float")
    assert torch.equal(prepared(x), model(x))


def test_an_older_handle_is_on_the_grid_of_the_last_change(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = x * 1
        y += 1
        y.mul_(0.1).clamp_(-0.05, 0.05)
        return F.relu(y)

    _, prepared = around(body, x)
    (row,) = (row for row in check_result_of(prepared).graph if "relu" in row.name)
    assert "clamp" in row.args
    assert "add" not in row.args


@pytest.mark.parametrize("kind", ["function", "module"])
def test_an_in_place_call_whose_operand_is_used_again_trains(kind: str, around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = x * 1
        z = self.act(y) if kind == "module" else F.leaky_relu(y, 0.1, inplace=True)
        return z + y  # autograd keeps what leaky_relu took, and y is what it gave

    model, prepared = around(body, x, act=nn.LeakyReLU(0.1, inplace=True))
    set_fake_quantize(prepared, "float")
    gradients = []
    for each in (model, prepared):
        leaf = x.clone().requires_grad_()
        each(leaf).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_an_in_place_call_on_a_view_leaves_no_grid_behind(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = x + 0
        y[:, 0].mul_(0.3)
        return F.relu(y)

    with pytest.warns(UnknownOpWarning, match=r"mul_ on a view\] at .*test_sharing\.py:\d+"):
        model, prepared = around(body, x)
    torch.testing.assert_close(prepared(x), model(x), atol=0.05, rtol=0)


def test_a_buffer_filled_in_forward_is_quantized(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        canvas = x.new_zeros(2, 4, 8, 8)
        canvas[:, :, 1:7, 1:7] = x * 3
        canvas[:, 0] = 0.5
        return F.max_pool2d(canvas, 2)

    model, prepared = around(body, x)
    assert check_result_of(prepared).float_ops == ()
    scale = prepared._generated_setitem_1.activation_post_process.scale
    y = prepared(x)
    torch.testing.assert_close(y, model(x), atol=0.1, rtol=0)
    torch.testing.assert_close(y, (y / scale).round() * scale)
    set_fake_quantize(prepared, "float")
    assert torch.equal(prepared(x), model(x))


def test_resampling_tensors_of_two_grids_rounds_to_neither(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.dequant(self.up(self.quant(x))), self.dequant(self.up(self.quant2(x * 100)))

    model, prepared = prepared_net(x, body, up=nn.Upsample(scale_factor=2, mode="bilinear"))
    for given, expected, size in zip(prepared(x), model(x), (1, 100), strict=True):
        torch.testing.assert_close(given, expected, atol=0.02 * size, rtol=0)


def test_a_constant_map_sampled_at_a_quantized_grid_is_not_rounded_to_the_grid_s_scale(around: Around) -> None:
    grid, picture = torch.rand(1, 3, 3, 2) * 2 - 1, torch.randn(1, 2, 5, 5) * 100
    with pytest.warns(UnknownOpWarning, match="grid_sampler|grid_sample"):
        model, prepared = around(lambda s, g: F.grid_sample(s.map, g, align_corners=False), grid, map=picture)
    torch.testing.assert_close(prepared(grid), model(grid), atol=5.0, rtol=0)


def test_padding_with_a_value_stays_on_the_grid(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: F.pad(x, (1, 1), value=0.123), x)
    steps = prepared(x) / prepared.quant.activation_post_process.scale
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)


def test_a_constant_shaped_like_a_quantized_tensor_is_still_a_constant(around: Around, x: Tensor) -> None:
    _, prepared = around(lambda s, x: x + s.gain.expand_as(x), x, gain=torch.randn(1, 4, 1, 1))
    assert list(prepared._generated_add_0.operand_fake_quant) == ["1"]


def test_one_float_functional_quantizes_each_constant_it_meets(around: Around, x: Tensor) -> None:
    body = lambda s, x: s.f.mul(s.f.add(x, x), s.gain)  # noqa: E731
    model, prepared = around(body, x, f=FloatFunctional(), gain=torch.rand(4, 1, 1) + 0.5)
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0.1)
    assert list(prepared.f.operand_fake_quant) == ["1"]


def test_two_lambdas_on_one_line_are_two_places(around: Around, x: Tensor) -> None:
    calls = [lambda x: x * 0.01, lambda x: x * 100]  # fmt: skip

    def body(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        small, large = calls if x.shape[0] < 3 else calls[::-1]
        return torch.cat([small(x), large(x)], 1)

    _, prepared = around(body, x)
    with pytest.raises(UnrecordedCallError, match="mul at"):  # the first call, but of the other lambda
        prepared(torch.randn(3, 4, 6, 6))


def test_a_comparison_is_a_consumer_too(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) * (y > 0)

    bn = nn.BatchNorm2d(4)
    nn.init.normal_(bn.running_mean)
    _, prepared = around(body, x, conv=nn.Conv2d(4, 4, 1), bn=bn)
    assert type(prepared.bn) is not nn.Identity


def test_a_weight_that_a_function_uses_too_is_not_folded(around: Around, x: Tensor) -> None:
    conv = nn.Conv2d(4, 4, 1)
    model, prepared = around(lambda s, x: s.bn(s.c(x)) + F.conv2d(x, s.c.weight), x, c=conv, bn=nn.BatchNorm2d(4))
    assert torch.equal(prepared.c.weight, conv.weight)
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def settled_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4).eval()
    nn.init.uniform_(norm.running_var, 2, 3)  # type: ignore[arg-type]
    return norm


def test_a_weight_that_a_float_function_uses_is_not_folded(x: Tensor) -> None:
    def body(net: Any, x: Tensor) -> Tensor:
        return net.dequant(net.norm(net.conv(net.quant(x)))) + F.conv2d(x, weight=net.conv.weight)

    model = Net(body, conv=nn.Conv2d(4, 4, 1), norm=settled_norm()).eval()
    prepared = prepare(model, x, default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(prepared, "float")
    assert torch.equal(prepared(x), model(x))


def test_a_weight_that_is_only_asked_for_its_dtype_is_folded(x: Tensor) -> None:
    def body(net: Any, x: Tensor) -> Tensor:
        kind = torch.zeros_like(net.conv.weight).dtype
        return net.dequant(net.norm(net.conv(net.quant(x).to(net.conv.weight.dtype)))).to(kind)

    _, prepared = prepared_net(x, body, conv=nn.Conv2d(4, 4, 1), norm=settled_norm())
    assert type(prepared.norm) is nn.Identity


def test_a_float_input_gets_the_quantizer_its_qconfig_asks_for(around: Around, x: Tensor) -> None:
    setters = (ModuleNameQconfigSetter({"conv": get_qconfig()}), default_qat_qconfig_setter)
    with pytest.warns(UnknownOpWarning):
        _, prepared = around(lambda s, x: s.conv(torch.i0(x)), x, setters, conv=nn.Conv2d(4, 4, 1))
    assert prepared.conv.input_fake_quant.has_scale
    assert check_result_of(prepared).layers[1].input_dtypes == (qint8,)


def test_the_caller_s_own_tensor_is_left_alone(x: Tensor) -> None:
    model = Net(lambda s, x: s.dequant(F.relu(s.quant(x))) + x * 0.5)
    prepared = prepare(model, x, default_qat_qconfig_setter, save_dir=None)
    set_fake_quantize(prepared, "float")
    for _ in range(2):
        torch.testing.assert_close(prepared(x), F.relu(x) + x * 0.5)


def test_constants_by_keyword_and_in_lists_by_keyword(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = torch.add(x, other=self.gain)
        return torch.cat(tensors=[y, self.more], dim=1)

    _, prepared = around(body, x, gain=torch.rand(4, 1, 1), more=torch.rand(2, 1, 6, 6))
    assert list(prepared._generated_add_0.operand_fake_quant) == ["other"]
    assert list(prepared._generated_cat_0.operand_fake_quant) == ["tensors_1"]


def test_a_functional_batch_norm_is_an_op_of_its_own(around: Around, x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        return F.batch_norm(self.conv(x), self.mean, self.var)

    model, prepared = around(body, x, conv=nn.Conv2d(4, 4, 1), mean=torch.zeros(4), var=torch.ones(4))
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0)


def test_a_name_the_user_has_taken_is_not_overwritten(around: Around, x: Tensor) -> None:
    own = nn.Linear(6, 6)
    _, prepared = around(lambda s, x: s._generated_add_0(x) + x, x, _generated_add_0=own)
    assert isinstance(prepared._generated_add_0, nn.Linear)
    assert hasattr(prepared, "_generated_add_1")


@pytest.mark.parametrize("mask", ["masked_fill", "add"])
def test_hand_written_attention_masks_with_infinity(mask: str, around: Around) -> None:
    x, ahead = torch.randn(2, 5, 8), torch.ones(5, 5).bool().triu(1)

    def body(self: Any, x: Tensor) -> Tensor:
        scores = x @ x.transpose(1, 2) * 0.3
        hidden = torch.zeros(5, 5).masked_fill(ahead, -torch.inf)
        scores = scores.masked_fill(ahead, -torch.inf) if mask == "masked_fill" else scores + hidden
        return F.softmax(scores, -1) @ x

    model, prepared = around(body, x)
    torch.testing.assert_close(prepared(x), model(x), atol=0.1, rtol=0.1)


def test_an_unrecorded_call_with_its_tensors_by_keyword_is_seen(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        y = self.quant(x)
        return self.dequant(torch.mul(input=y, other=y) if x.shape[0] > 2 else F.relu(y))

    _, prepared = prepared_net(x, body)
    with pytest.raises(UnrecordedCallError, match="mul at"):
        prepared(torch.randn(3, 4, 6, 6))


def test_a_second_input_without_a_stub_is_an_error_that_names_the_call(x: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"went through no QuantStub .*operand 1 of '_generated_add_0' \(add at .*py:\d+"
    ):
        prepared_net((x, x * 2), lambda s, x, y: s.dequant(s.quant(x) + y))


def test_what_hides_from_torch_s_functions_is_told(x: Tensor) -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return torch.from_numpy(x.detach().numpy() * 2)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
            return grad * 2

    net = Net(lambda s, x: s.dequant(Twice.apply(s.quant(x))))
    with pytest.warns(UnknownOpWarning, match="'dequant' got a tensor that was not seen to come from a QuantStub"):
        prepare(net, x, default_qat_qconfig_setter, save_dir=None)


@pytest.mark.parametrize("body", [lambda s, x: torch.relu_(x), lambda s, x: x.mul_(2) + x, lambda s, x: s.act(x)])
def test_a_call_in_place_behind_the_stub_overwrites_the_caller_s_tensor_as_in_the_float_model(body: Any) -> None:
    x = torch.tensor([-1.0, 0.5])
    model, prepared = prepared_net(x.clone(), lambda s, x: s.dequant(body(s, s.quant(x))), act=nn.ReLU(inplace=True))
    model(changed := x.clone())
    assert not torch.equal(changed, x)
    prepared(rounded := x.clone())
    assert torch.equal(rounded, x)
    set_fake_quantize(prepared, "float")
    prepared(overwritten := x.clone())
    assert torch.equal(overwritten, changed)


def test_loading_not_strictly_takes_what_fits_and_shapes_must_fit(x: Tensor) -> None:
    _, prepared = prepared_net(x, lambda s, x: s.dequant(s.linear(s.quant(x))), linear=nn.Linear(6, 6))
    state = {"linear.weight": torch.zeros(6, 6), "elsewhere": torch.ones(1)}
    assert prepared.load_state_dict(state, strict=False).unexpected_keys == ["elsewhere"]
    assert not prepared.linear.weight.any()
    with pytest.raises(RuntimeError, match=r"nothing was loaded: 'linear\.weight' has shape"):
        prepared.load_state_dict({"linear.weight": torch.ones(4, 9), "linear.bias": torch.ones(6)}, strict=False)
    assert not torch.equal(prepared.linear.bias, torch.ones(6))


def test_a_state_dict_with_a_scale_that_is_none_loads_nothing(x: Tensor) -> None:
    _, prepared = prepared_net(x, lambda s, x: s.dequant(s.linear(s.quant(x))), linear=nn.Linear(6, 6))
    before = {key: value.clone() for key, value in prepared.state_dict().items()}
    broken = {key: value + 1 for key, value in before.items()} | {"linear.weight_fake_quant.scale": torch.zeros(6)}
    with pytest.raises(
        RuntimeError,
        match=r"has values that do not fit this Net, nothing was loaded: .*scale is 0, .*\(for 'linear\.weight'\)$",
    ):
        prepared.load_state_dict(broken)
    assert all(torch.equal(value, before[key]) for key, value in prepared.state_dict().items())


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [
        ("module", "DistributedDataParallel"),
        ("_orig_mod", "torch.compile"),
        ("module._orig_mod", "DistributedDataParallel of what torch.compile gave"),
        ("_orig_mod.module", "torch.compile of a DistributedDataParallel"),
    ],
)
def test_the_state_dict_of_a_wrapped_model_is_told_from_another_s(prefix: str, wrapper: str, x: Tensor) -> None:
    _, prepared = prepared_net(x, lambda s, x: s.dequant(s.linear(s.quant(x))), linear=nn.Linear(6, 6))
    state = {f"{prefix}.{key}": value for key, value in prepared.state_dict().items()}
    with pytest.raises(
        RuntimeError, match=rf"All its keys begin with '{prefix}\.', as {wrapper}.*model\.{prefix}\.state"
    ):
        prepared.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"is of another model") as caught:
        prepared.load_state_dict({**state, f"{prefix}.else": torch.ones(1)})
    assert "begin with" not in str(caught.value)


def test_a_checkpoint_around_a_state_dict_is_told(x: Tensor) -> None:
    _, prepared = prepared_net(x, lambda s, x: s.dequant(s.linear(s.quant(x))), linear=nn.Linear(6, 6))
    with pytest.raises(RuntimeError, match=r"Its entry 'model' has the model's keys: load that one$"):
        prepared.load_state_dict({"epoch": 3, "model": prepared.state_dict()})
    with pytest.raises(TypeError, match="state_dict is str, expected a mapping of names to tensors"):
        prepared.load_state_dict("net.pt")


def test_a_checkpoint_of_another_dtype_gives_its_range_and_not_its_scale(x: Tensor) -> None:
    model, narrow = prepared_net(x, lambda s, x: s.dequant(s.linear(s.quant(x))), linear=nn.Linear(6, 6))
    wide: Any = prepare(model, x, calibration_8bit_weight_16bit_act_qconfig_setter, save_dir=None)
    with pytest.warns(CalibrationWarning, match="the checkpoint was made with qint8 where 'quant' is qint16"):
        wide.load_state_dict(narrow.state_dict())
    quantizers = wide.quant.activation_post_process, narrow.quant.activation_post_process
    ratio = quantizers[1].scale / quantizers[0].scale
    torch.testing.assert_close(ratio, torch.tensor([32767.5 / 127.5]))


def test_a_checkpoint_with_a_constant_of_zeros_is_of_no_other_dtype(x: Tensor) -> None:
    def body(self: Any, x: Tensor) -> Tensor:
        return self.dequant(self.quant(x) + torch.zeros(6))  # a range of zeros has one scale on every grid

    model, prepared = prepared_net(x, body)
    again = prepare(model, x, default_qat_qconfig_setter, save_dir=None)
    again.load_state_dict(prepared.state_dict())  # a warning would be an error
    scales = [each.operand_fake_quant["1"].scale for each in (prepared._generated_add_0, again._generated_add_0)]
    assert torch.equal(*scales)

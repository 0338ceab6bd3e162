"""A gradient is overwritten only where nobody can see it, and every gradient is what it would be in a new tensor."""

import functools
import sys
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nashquant import ops
from nashquant.ops import _overwrite, _rust

SHAPE = (8, 8, 32, 32)  # 64K elements: the least that is asked about
N = 1 << 16


def values(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quantized(x):
    return ops.fake_quantize_per_tensor(x, 0.01, 0, -128, 127)  # a fifth is clipped


class Backward(torch.autograd.Function):
    """Passes on; its gradient is what `make` makes of it."""

    @staticmethod
    def forward(ctx, x, make):
        ctx.make = make
        return x.clone()

    @staticmethod
    def backward(ctx, grad_y):
        return ctx.make(grad_y), None


@pytest.fixture
def overwritten(monkeypatch):
    """`overwritten(case)`: runs `case` as it is, and with a new tensor for each gradient: all it gives must be the
    same. How many gradients were overwritten."""

    def run(case):
        with monkeypatch.context() as patch:
            patch.setattr(_rust, "fake_quantize_backward_in_place", lambda grad_y, mask: False)
            expected = [each.clone() for each in case()]
        done = []
        real = _rust.fake_quantize_backward_in_place
        with monkeypatch.context() as patch:
            patch.setattr(
                _rust,
                "fake_quantize_backward_in_place",
                lambda grad_y, mask: real(grad_y, mask) and (done.append(grad_y.shape) or True),
            )
            result = list(case())
        assert len(result) == len(expected) > 0
        for one, other in zip(result, expected, strict=True):
            assert torch.equal(one, other), (one - other).abs().max()
        return len(done)

    return run


def leaf(shape=SHAPE):
    return values(0, shape).requires_grad_()


def test_a_gradient_that_an_operator_has_made_is_overwritten(overwritten):
    def case():
        x = leaf()
        (quantized(x) * values(1)).sum().backward()
        steps = (x.detach() / 0.01).round()
        outside = (steps < -128) | (steps > 127)
        assert torch.equal(x.grad, values(1) * ~outside)
        assert 0.1 < outside.float().mean() < 0.3
        return [x.grad]

    assert overwritten(case) == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_in_every_dtype(overwritten, dtype):
    def case():
        x = values(0, (4, N)).to(dtype).requires_grad_()
        (quantized(x) * values(1, (4, N)).to(dtype)).sum().backward()
        return [x.grad]

    assert overwritten(case) == 1


def test_per_channel_observed_with_a_relu_and_in_channels_last(overwritten):
    def case():
        x = values(0).contiguous(memory_format=torch.channels_last).requires_grad_()
        y = ops.fake_quantize_per_channel(x, torch.full((8,), 0.01), torch.zeros(8, dtype=torch.int32), 1, -128, 127)
        low, high, scale = torch.tensor(-1.0), torch.tensor(1.0), torch.ones(1)
        z = ops.fake_quantize_observed_per_tensor(y * 2, low, high, scale, 0.01, -8, 7, clamp=ops.RELU)
        (z * values(1).contiguous(memory_format=torch.channels_last)).sum().backward()
        return [x.grad]

    assert overwritten(case) == 2


def test_through_layers(overwritten):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 1))

    def case():
        x = leaf()
        y = x
        for layer in layers:
            y = layer(quantized(y))
        y.square().sum().backward()
        gradients = [x.grad, *(p.grad.clone() for p in layers.parameters())]
        layers.zero_grad()
        return gradients

    assert overwritten(case) == 3


def test_what_reads_y_twice_adds_up_first(overwritten):
    def case():
        x = leaf()
        y = quantized(x)
        (y * values(1) + y.square() + y.reshape(-1).cumsum(0).view(SHAPE)).sum().backward()
        return [x.grad]

    assert overwritten(case) == 1


def test_two_readers_of_one_gradient(overwritten):
    def case():
        x, other, plain = leaf(), values(2).requires_grad_(), values(3).requires_grad_()
        ((quantized(x) + quantized(other) + plain) * values(1)).sum().backward()
        return [x.grad, other.grad, plain.grad]

    overwritten(case)


def test_a_residual_connection(overwritten):
    def case():
        x = leaf()
        y = quantized(x)
        z = quantized(y + quantized(y * 0.7))
        (z * values(1)).sum().backward()
        return [x.grad]

    overwritten(case)


def test_a_gradient_that_is_retained_is_what_came_in(overwritten):
    def case():
        x = leaf()
        y = quantized(x)
        y.retain_grad()
        (y * values(1)).sum().backward()
        assert torch.equal(y.grad, values(1))
        return [x.grad, y.grad]

    overwritten(case)


def test_a_graph_that_is_kept_gives_the_same_again(overwritten):
    def case():
        x = leaf()
        loss = (quantized(x).square() * values(1)).sum()
        first = torch.autograd.grad(loss, x, retain_graph=True)[0].clone()
        return [first, torch.autograd.grad(loss, x)[0]]

    assert overwritten(case) == 2


def test_gradients_of_gradients(overwritten):
    def case():
        x, grad_y = leaf(), values(1).requires_grad_()
        (grad_x,) = torch.autograd.grad(-quantized(x), x, grad_y, create_graph=True)
        return [grad_x.detach(), *torch.autograd.grad(grad_x.sum(), grad_y)]

    assert overwritten(case) == 0


def test_many_gradients_at_once(overwritten):
    def case():
        x = leaf()
        grads_y = torch.stack([values(1), values(2)])
        return torch.autograd.grad(-quantized(x), x, grads_y, is_grads_batched=True)[0]

    assert overwritten(case) == 0


def test_a_gradient_in_another_memory_order_gets_the_order_of_x(overwritten):
    def case():
        x = leaf()
        turned = Backward.apply(quantized(x), lambda grad: (grad * 2).contiguous(memory_format=torch.channels_last))
        (turned * values(1)).sum().backward()
        assert x.grad.is_contiguous()
        return [x.grad]

    assert overwritten(case) == 0
    _, mask = _rust.fake_quantize_per_tensor(values(0).requires_grad_(), 0.01, 0, -128, 127)
    assert not _rust.fake_quantize_backward_in_place(torch._neg_view(values(0)), mask)


# Everything below is seen by somebody else.


@pytest.mark.parametrize("way", ["grad", "backward", "apply", "apply_tuple"])
def test_a_gradient_from_outside_stays(overwritten, way):
    def case():
        x, grad_y = leaf(), values(1)
        y = quantized(x)
        if way == "backward":
            y.backward(grad_y)
            return [x.grad, grad_y]
        if way == "grad":
            return [*torch.autograd.grad(y, x, grad_y), grad_y]
        if way == "apply_tuple":
            arguments = (values(1),)
            with torch.no_grad():
                return [y.grad_fn.apply(*arguments)[0], *arguments]
        return [y.grad_fn.apply(grad_y)[0], grad_y]

    assert overwritten(case) == 0


KEEPERS = {
    "itself": lambda grad: grad,
    "a view": lambda grad: grad[0],
    "detached": lambda grad: grad.detach(),
    "numpy": lambda grad: torch.from_numpy(grad.numpy()),
    "dlpack": lambda grad: np.from_dlpack(grad),
    "storage": lambda grad: grad.untyped_storage(),
    "old storage": lambda grad: grad._typed_storage(),
    "weak reference": weakref.ref,
    "shared memory": lambda grad: grad.share_memory_().shape,
    "a generator": lambda grad: next(kept_in_a_frame(grad)),
    "alias": lambda grad: torch.ops.aten.alias(grad),
    "data": lambda grad: grad.data,
    "set": lambda grad: torch.empty(0).set_(grad),
    "a closure": lambda grad: functools.partial(torch.add, grad),
    "lazy clone": lambda grad: grad._lazy_clone(),
}


def kept_in_a_frame(grad):
    yield kept_in_a_frame
    yield grad


@pytest.mark.parametrize("what", KEEPERS)
@pytest.mark.parametrize("where", ["tensor", "before", "after", "several", "tensor of module"])
def test_a_gradient_that_a_hook_keeps_stays(overwritten, what, where):
    def case():
        kept, seen = [], []

        def keep(grad):
            seen.append(grad.clone())
            kept.append(KEEPERS[what](grad))
            if what == "a generator":
                kept.append(kept_in_a_frame(grad))

        x = leaf()
        y = quantized(x)
        if where == "tensor":
            y.register_hook(keep)
        elif where == "before":
            y.grad_fn.register_prehook(lambda grads: keep(grads[0]))
        elif where == "after":
            y.grad_fn.register_hook(lambda grads, grads_y: keep(grads_y[0]))
        elif where == "several":
            torch.autograd.graph.register_multi_grad_hook((y,), lambda grads: keep(grads[0]))
        else:
            module = nn.Identity()
            module.register_full_backward_hook(lambda module, grads, grads_y: keep(grads_y[0]))
            y = module(y)
        (y * values(1)).sum().backward()
        now = [torch.as_tensor(each) for each in kept if isinstance(each, torch.Tensor | np.ndarray)]
        now += [torch.tensor([], dtype=torch.float32).set_(each) for each in kept if type(each) is torch.UntypedStorage]
        now = [each for each in now if each.numel() == N]
        assert all(torch.equal(each.view(-1), seen[0].view(-1)) for each in now)
        return [x.grad, *seen, *now]

    # A copy on write is a copy by now; a module's hook gets a view of its own.
    if what != "lazy clone":
        assert overwritten(case) == 0
    else:
        overwritten(case)


def test_a_gradient_that_is_asked_for_stays(overwritten):
    def case():
        x = leaf()
        y = quantized(x)
        grad_y, grad_x = torch.autograd.grad((y * values(1)).sum(), [y, x])
        assert torch.equal(grad_y, values(1))
        return [grad_x, grad_y]

    assert overwritten(case) == 0


def test_an_expanded_gradient_stays(overwritten):
    def case():
        x = leaf()
        quantized(x).sum().backward()
        return [x.grad]

    assert overwritten(case) == 0


def test_what_a_backward_of_ones_own_keeps_stays(overwritten):
    array, tensor, parameter, saved = values(1).numpy(), values(2), nn.Parameter(values(3)), {}
    file = bytearray(values(4).numpy().tobytes())
    gradients = {
        "array": lambda grad: torch.from_numpy(array),
        "dlpack": lambda grad: torch.from_dlpack(array),
        "file": lambda grad: torch.frombuffer(file, dtype=torch.float32).view(SHAPE),
        "tensor": lambda grad: tensor,
        "view": lambda grad: tensor.view(SHAPE),
        "parameter": lambda grad: parameter,
        "detached": lambda grad: parameter.detach(),
        "kept": lambda grad: saved.setdefault("kept", grad * 2),
        "part": lambda grad: saved.setdefault("whole", torch.cat([grad, grad]))[8:],
    }
    for make in gradients.values():

        def case(make=make):
            x = leaf()
            (Backward.apply(quantized(x), make) * values(5)).sum().backward()
            return [x.grad, torch.from_numpy(array), tensor, parameter.detach(), *saved.values()]

        assert overwritten(case) == 0
        saved.clear()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints(overwritten, reentrant):
    def case():
        x = leaf()
        y = checkpoint(lambda x: quantized(quantized(x) * 0.7), x * 1.0, use_reentrant=reentrant)
        (y * values(1)).sum().backward()
        return [x.grad]

    overwritten(case)


def test_a_backward_within_a_backward(overwritten):
    def case():
        inner = leaf()

        def make(grad):
            with torch.enable_grad():
                (quantized(inner) * grad).sum().backward()
            return grad

        x = leaf()
        (Backward.apply(quantized(x), make) * values(1)).sum().backward()
        return [x.grad, inner.grad]

    overwritten(case)


def test_under_the_profiler_and_in_anomaly_mode(overwritten):
    def case():
        x = leaf()
        with torch.autograd.detect_anomaly(), torch.profiler.profile(record_shapes=True):
            (quantized(x) * values(1)).sum().backward()
        return [x.grad]

    with pytest.warns(UserWarning, match="Anomaly"):
        overwritten(case)


def test_a_debugger_that_keeps_what_it_sees_keeps_right_gradients(overwritten):
    def case():
        x, kept = leaf(), []

        def trace(frame, event, argument):
            kept.append(frame.f_locals.get("grad_y"))
            return trace

        y = quantized(x)
        sys.settrace(trace)
        try:
            (y * values(1)).sum().backward()
        finally:
            sys.settrace(None)
        return [x.grad, values(1)]

    overwritten(case)


def test_zeros_without_memory_pass():
    x = leaf()
    (grad_x,) = torch.autograd.grad(quantized(x), x, torch._efficientzerotensor(SHAPE))
    assert torch.equal(grad_x, torch.zeros(SHAPE))


def test_a_tensor_of_a_megabyte_is_worth_it_and_a_kilobyte_is_not(overwritten):
    def case(n):
        x = values(0, (n,)).requires_grad_()
        (quantized(x) * values(1, (n,))).sum().backward()
        return [x.grad]

    assert overwritten(functools.partial(case, 1 << 18)) == 1
    assert overwritten(functools.partial(case, 1 << 8)) == 0


def test_each_holder_is_counted():
    x = values(0)
    alone = _overwrite._references(x)
    assert alone == _overwrite._OF_ONE_TENSOR is not None
    capsule = x.__dlpack__()  # holds torch's tensor, not the Python object
    assert _overwrite._references(x)[0] > alone[0]
    del capsule
    view = x.view(-1)
    assert _overwrite._references(x)[1] > alone[1]
    del view
    storage = x.untyped_storage()
    assert _overwrite._references(x)[2] > alone[2]
    del storage
    assert _overwrite._references(x) == alone
    with torch.no_grad():
        assert not _overwrite.may_be_overwritten(x)  # outside of the engine nobody knows

"""Observe and quantize in one call, by torch's rules: ranges, scales, zero points, values and gradients are torch's."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver

from nashquant import ops

GRIDS = [(-128, 127), (0, 255), (-8, 7), (0, 127), (-32768, 32767)]
BATCHES = {
    "both signs": lambda: torch.randn(1000),
    "positive": lambda: torch.rand(513) + 0.1,
    "negative": lambda: -torch.rand(70) - 0.1,
    "zeros": lambda: torch.zeros(5),
    "one value": lambda: torch.tensor([0.3]),
    "large": lambda: torch.randn(40) * 1e30,
    "skewed": lambda: torch.randn(2**16) * torch.tensor([0.01, 3.0]).repeat(2**15),
}


def fresh() -> tuple[torch.Tensor, ...]:
    return torch.tensor(torch.inf), torch.tensor(-torch.inf), torch.ones(1), torch.zeros(1, dtype=torch.int32)


def in_torch(rule: str, c: float, qmin: int, qmax: int):
    """What torch does with a batch: gives the rounded one, and the state after it."""
    if rule.startswith("fused"):
        low, high, scale, zero_point = fresh()
        on = torch.ones(1, dtype=torch.long)

        def run(x):
            grid = (c, qmin, qmax, -1, False, rule == "fused symmetric")
            y = torch.fused_moving_avg_obs_fake_quant(x, on, on, low, high, scale, zero_point, *grid)
            return y, (low, high, scale, zero_point)

        return run
    qscheme = torch.per_tensor_affine if rule == "affine" else torch.per_tensor_symmetric
    dtype = torch.quint8 if qmax == 255 else torch.qint8 if qmax < 255 else torch.qint32
    wanted = {"dtype": dtype, "qscheme": qscheme}
    module = FakeQuantize(MovingAverageMinMaxObserver, qmin, qmax, averaging_constant=c, **wanted)
    observer = module.activation_post_process
    return lambda x: (module(x), (observer.min_val, observer.max_val, module.scale, module.zero_point))


@pytest.mark.filterwarnings("ignore")  # torch.ao warns of itself
@pytest.mark.parametrize("qrange", GRIDS)
@pytest.mark.parametrize("rule", ["affine", "symmetric", "fused affine", "fused symmetric"])
@pytest.mark.parametrize("c", [0.01, 1.0])
def test_equals_torch_batch_after_batch(rule, qrange, c):
    torch.manual_seed(0)
    torch_run, state = in_torch(rule, c, *qrange), fresh()
    middle, taken = 127 if qrange == (0, 255) else 0, 0  # torch.ao's zero point of unsigned integers
    for make in [*BATCHES.values()] * 2:
        x = make().requires_grad_()
        theirs, their_state = torch_run(x)
        ours = ops.fake_quantize_observed_as_torch_per_tensor(x, *state, c, *qrange, rule, middle=middle)
        if ours is None:  # left to torch: go on from where it is
            state = tuple(one.detach().clone() for one in their_state)
            continue
        taken += 1
        grad_y = torch.randn(x.shape)
        assert torch.equal(ours, theirs)
        assert torch.equal(*(torch.autograd.grad(y, x, grad_y)[0] for y in (ours, theirs)))
        for mine, other in zip(state, their_state, strict=True):
            assert torch.equal(mine, other.reshape(mine.shape)), f"{mine} but torch has {other}"
    assert taken >= 3, "the usual case was never met"


ends = st.floats(-1000, 1000, width=32, allow_subnormal=False)


@given(ends, ends, st.sampled_from(GRIDS), st.booleans())
def test_any_range_gets_the_grid_of_torchs_fused_operator(a, b, qrange, symmetric):
    x, rule = torch.tensor([a, b]), "fused symmetric" if symmetric else "fused affine"
    state = fresh()
    if ops.fake_quantize_observed_as_torch_per_tensor(x, *state, 0.01, *qrange, rule) is not None:
        _, theirs = in_torch(rule, 0.01, *qrange)(x)
        assert [one.item() for one in state] == [one.item() for one in theirs]


# Half a step either way: what f32 rounds and the choice of the end decide.
@pytest.mark.parametrize("qrange", [(-4, 3), (-3, 4), (-4, 2), (-3, 3)])
@pytest.mark.parametrize("ends", [(-9.0, 9.0), (-17.0, 17.0), (-15.0, 5.0), (-3.0, 1.0), (-13.0, 39.0)])
def test_the_zero_point_comes_from_the_end_that_torch_takes_it_from(qrange, ends):
    x, state = torch.tensor(ends), fresh()
    ours = ops.fake_quantize_observed_as_torch_per_tensor(x, *state, 0.01, *qrange, "fused affine")
    theirs, their_state = in_torch("fused affine", 0.01, *qrange)(x)
    assert torch.equal(ours, theirs)
    assert state[3] == their_state[3]


@pytest.mark.parametrize("bad", [[torch.nan, 1.0], [torch.inf, 1.0], []])
@pytest.mark.parametrize("rule", ["affine", "fused affine"])
def test_what_is_not_finite_changes_nothing(rule, bad):
    state = fresh()
    assert ops.fake_quantize_observed_as_torch_per_tensor(torch.tensor(bad), *state, 0.01, 0, 255, rule) is None
    assert all(torch.equal(one, before) for one, before in zip(state, fresh(), strict=True))


def test_small_scales_are_left_to_torchs_fused_operator_and_nothing_is_changed():
    state, x = fresh(), torch.tensor([-1e-4, 2e-4])
    assert ops.fake_quantize_observed_as_torch_per_tensor(x, *state, 0.01, 0, 255, "fused affine") is None
    assert all(torch.equal(one, before) for one, before in zip(state, fresh(), strict=True))


@pytest.mark.parametrize(
    ("rule", "qrange"),
    [
        ("fused affine", (2**25, 2**25 + 255)),  # torch adds the zero point in f32
        ("fused symmetric", (-(2**31), -(2**31) + 255)),
        ("fused symmetric", (-1, 0)),  # torch's scale is NaN
    ],
)
def test_grids_that_torch_rounds_otherwise_are_left_to_it_and_nothing_is_changed(rule, qrange):
    state, x = fresh(), torch.tensor([-1.0, 0.3, 2.0])
    assert ops.fake_quantize_observed_as_torch_per_tensor(x, *state, 0.01, *qrange, rule) is None
    assert all(torch.equal(one, before) for one, before in zip(state, fresh(), strict=True))


def test_a_range_that_overflows_is_left_to_torch_and_nothing_is_changed():
    state, x = fresh(), torch.tensor([-3e38, 3e38])
    assert ops.fake_quantize_observed_as_torch_per_tensor(x, *state, 0.01, 0, 255, "affine") is None
    assert all(torch.equal(one, before) for one, before in zip(state, fresh(), strict=True))


def test_autograd_knows_that_the_state_was_written():
    state = fresh()
    before = [one._version for one in state]
    ops.fake_quantize_observed_as_torch_per_tensor(torch.randn(9), *state, 0.01, 0, 255, "affine")
    assert all(one._version > version for one, version in zip(state, before, strict=True))


def test_a_wrong_rule_or_zero_point_is_refused():
    x, (low, high, scale, zero_point) = torch.randn(9), fresh()

    def run(zero_point, rule):
        ops.fake_quantize_observed_as_torch_per_tensor(x, low, high, scale, zero_point, 0.01, 0, 255, rule)

    with pytest.raises(ValueError, match='rule is "affin", which is none of torch'):
        run(zero_point, "affin")
    with pytest.raises(TypeError, match=r"zero_point has dtype torch.float32, but must be torch.int32"):
        run(torch.zeros(1), "affine")
    with pytest.raises(ValueError, match="zero_point has 2 elements, but 1 is needed"):
        run(torch.zeros(2, dtype=torch.int32), "affine")
    assert low == torch.inf

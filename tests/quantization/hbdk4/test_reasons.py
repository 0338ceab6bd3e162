"""Why two integers are not the same: literals of each reason, and what has none."""

from __future__ import annotations

import torch
from torch import Tensor

from nashquant.quantization.hbdk4._grid import Grid
from nashquant.quantization.hbdk4._near import Near
from nashquant.quantization.hbdk4._reasons import Reasons, of_layer, of_output

GRID = Grid(torch.tensor(0.01), torch.tensor(0), None, -128, 127)
ONE, TWO, ONE_AND_A_HALF = torch.tensor([0.01]), torch.tensor([0.02]), 1.5 * float(torch.tensor(0.01))
THERE = torch.tensor([True])


def near(value: float, error: float) -> Near:
    return Near(torch.tensor([value], dtype=torch.float64), torch.tensor([error], dtype=torch.float64))


def layer(model: float, file: float, exact: Near | None, y: tuple[Tensor, Tensor] = (ONE, TWO)) -> Reasons:
    return of_layer(THERE, GRID, y, (torch.tensor([model]), torch.tensor([file])), exact)


def test_two_floats_on_either_side_of_a_half_that_both_are_near_enough() -> None:
    found = layer(0.0149, 0.0151, near(0.01501, 0.0002))
    assert (found.added, found.divided, found.unexplained) == (1, 0, 0)
    assert abs(found.from_tie - 0.001) < 1e-6
    assert abs(found.bound - 0.02) < 1e-6


def test_a_float_further_off_than_floats_may_be_is_unexplained() -> None:
    assert layer(0.0149, 0.0151, near(0.01501, 0.0001)) == Reasons(unexplained=1)
    assert layer(0.0149, 0.0151, near(0.01499, 0.0001)) == Reasons(unexplained=1)


def test_what_does_not_lie_at_a_half_is_unexplained() -> None:
    # Both floats are right, and one of them is rounded wrongly.
    assert layer(0.013, 0.013, near(0.013, 0.01)) == Reasons(unexplained=1)


def test_the_same_float_divided_here_and_multiplied_there() -> None:
    x = float(torch.nextafter(torch.tensor(ONE_AND_A_HALF), torch.tensor(0.0)))
    assert float(GRID.fake_quantize(torch.tensor([x]))) == float(ONE)
    assert layer(x, x, near(x, 0.0)).divided == 1
    assert layer(x - 1e-6, x - 1e-6, near(x - 1e-6, 0.0)) == Reasons(unexplained=1)


def test_two_steps_apart_is_more_than_one_half_explains() -> None:
    assert layer(0.0149, 0.0151, near(0.015, 0.0002), (ONE, torch.tensor([0.03]))) == Reasons(unexplained=1)


def test_the_end_of_a_grid_is_where_everything_beyond_rounds_to() -> None:
    y = (torch.tensor([1.26]), torch.tensor([1.27]))
    assert layer(1.2649, 1.2651, near(1.26501, 0.0002), y).added == 1
    assert layer(9.0, 9.0, near(9.0, 0.0002), y) == Reasons(unexplained=1)


def test_an_output_that_the_file_makes_of_what_it_has_is_carried_on() -> None:
    y = (torch.tensor([1.0]), torch.tensor([2.0]))
    assert of_output(THERE, None, y, (near(1.0, 1e-6), near(2.0, 1e-6))) == Reasons(carried=1)
    assert of_output(THERE, None, y, (near(1.0, 1e-6), near(2.1, 1e-6))) == Reasons(unexplained=1)
    assert of_output(THERE, None, y, (near(1.5, 0.5), near(1.5, 0.5))) == Reasons(added=1)
    assert of_output(THERE, GRID, (ONE, TWO), (near(0.012, 0.0), near(0.017, 0.0))) == Reasons(carried=1)
    assert of_output(THERE, GRID, (ONE, TWO), (near(0.015, 0.001), near(0.015, 0.001))) == Reasons(rounded=1)
    assert of_output(THERE, GRID, (ONE, TWO), (near(0.012, 0.0), near(0.027, 0.0))) == Reasons(unexplained=1)


def test_without_an_exact_value_there_is_no_reason() -> None:
    assert layer(0.0149, 0.0151, None) == Reasons(unexplained=1)
    assert of_output(THERE, None, (ONE, TWO), (None, near(1.0, 1.0))) == Reasons(unexplained=1)

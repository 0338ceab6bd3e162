"""The row of each other package, run by `bench_packages.py`: in a process of its own, since some patch torch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from benches import packages
from benches.harness import Rival, Row
from benches.harness.memory import copy_of
from benches.sizes import INT8_SCALE, QINT8, backward, normal

from nashquant import ops


@pytest.mark.filterwarnings("ignore")  # what they warn of is theirs
@pytest.mark.parametrize("package", packages.PACKAGES)
def test_forward_and_backward(race: Callable[[Row], None], absent: Callable[[str, str], None], package: str) -> None:
    x, grad_y = normal("1M").requires_grad_(), normal("1M").flip(0)
    try:
        theirs, note = packages.found(package, INT8_SCALE, *QINT8)
        theirs(x)
    except ImportError as error:
        absent(package, f"not installed ({error.name or error})")
        pytest.skip(f"{package} is not installed")
    except Exception as error:  # whatever is wrong in another package; what differs is found by the row
        absent(package, f"does not run here ({type(error).__name__})")
        pytest.skip(f"{package} does not run here: {error}")
    race(
        Row(
            work="fake_quantize_per_tensor",
            what="forward + backward, f32",
            size="1M",
            elements=x.numel(),
            ours=lambda: backward(ops.fake_quantize_per_tensor(x, INT8_SCALE, 0, *QINT8), x, grad_y),
            rivals=(Rival(package, lambda: backward(theirs(x), x, grad_y), packages.agree(package), note),),
            floors={package: 1},
            bytes_moved=4 * x.nbytes + 2 * x.numel() // 8,
            pace=copy_of(x.detach()),
            pace_bytes=2 * x.nbytes,
        )
    )

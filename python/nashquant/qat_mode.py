"""What holds for every model that is prepared: what happens to batch norms, and which scales are powers of two."""

from __future__ import annotations

import enum

__all__ = ["ConsistencyStrategy", "QATMode", "get_qat_mode", "set_qat_mode"]


class QATMode(enum.Enum):
    """Whether batch norms are folded into their conv or linear before QAT, or trained with it.

    | mode | weights that train | batch norm |
    |---|---|---|
    | FuseBN (default) | the folded ones | gone: its statistics are those of float training |
    | WithBN | those of the float model | kept: batch statistics in train mode, running ones in eval mode |

    In WithBN the weight is rounded per output channel before the batch norm scales it. Folding a positive gain into
    weight and scale later gives the same integers; a negative gain turns the grid's ends round, one step at most.
    """

    FuseBN = "fuse_bn"
    WithBN = "with_bn"


_mode = QATMode.FuseBN


def set_qat_mode(mode: QATMode | str) -> None:
    """Says what `prepare` does with batch norms, from now on and for the whole process.

    >>> set_qat_mode("fuse_bn")
    >>> get_qat_mode()
    <QATMode.FuseBN: 'fuse_bn'>

    Raises:
        ValueError: `mode` is neither of the two, nor the value of one.
    """
    global _mode
    try:
        _mode = QATMode(mode)
    except ValueError:
        known = ", ".join(f"QATMode.{each.name} ({each.value!r})" for each in QATMode)
        raise ValueError(f"QAT mode {mode!r} is unknown; nashquant knows {known}") from None


def get_qat_mode() -> QATMode:
    """The mode that holds now."""
    return _mode


class ConsistencyStrategy:
    """How near a trained model's scales are to what the chip multiplies by without rounding.

    | level | scales of activations | scales of weights |
    |---|---|---|
    | 0 (default) | as observed | as observed |
    | 1 | powers of two | as observed |
    | 2 | powers of two | powers of two |

    For nash-e and nash-m. What else the vendor's levels change (how resize, grid_sample and mean are computed) is not
    public, and not here. A scale that was given (`QuantStub(scale=...)`, a threshold) stays as it is.
    """

    level: int = 0

    @classmethod
    def set_consistency_level(cls, level: int) -> None:
        """Says which scales `prepare` holds to powers of two, from now on and for the whole process.

        >>> ConsistencyStrategy.set_consistency_level(0)

        Raises:
            ValueError: `level` is not 0, 1 or 2.
        """
        if isinstance(level, bool) or level not in (0, 1, 2):
            raise ValueError(f"the consistency level is {level!r}, expected 0, 1 or 2")
        ConsistencyStrategy.level = level

"""The names and texts of a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Texts = str | Sequence[str] | None


@dataclass(frozen=True)
class Face:
    """One side of the model: the names of its tensors, and a text about each (empty where there is none)."""

    names: tuple[str, ...]
    descs: tuple[str, ...]


def face(side: str, natural: Sequence[str], names: Texts, descs: Texts, native_pytree: bool) -> Face:
    """The `side` ("input" or "output") of a model whose tensors are called `natural` in Python.

    Raises:
        TypeError: names or texts that are no strings.
        ValueError: not as many names or texts as there are tensors; a name is empty or there twice.
    """
    own = natural if native_pytree else [f"{side}_{i}" for i in range(len(natural))]
    chosen = _texts(f"{side}_names", names, natural) or tuple(own)
    for name in chosen:
        if not name or chosen.count(name) > 1:
            raise ValueError(f"{side}_names must be unique and not empty, but are {list(chosen)}")
    return Face(chosen, _texts(f"{side}_descs", descs, natural) or ("",) * len(natural))


def check_apart(inputs: Face, outputs: Face) -> None:
    """Nothing, if no input is called as an output is.

    Raises:
        ValueError: one is; in ONNX that would be the same value.
    """
    if both := sorted({*inputs.names} & {*outputs.names}):
        raise ValueError(f"an input and an output may not have the same name, but both have {both}")


def _texts(argument: str, texts: Texts, natural: Sequence[str]) -> tuple[str, ...] | None:
    if texts is None:
        return None
    texts = (texts,) if isinstance(texts, str) else tuple(texts)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{argument} takes strings, not {text!r}")
    if len(texts) != len(natural):
        tensors = f"{len(natural)} tensors: {list(natural)}"
        raise ValueError(f"{argument} has {len(texts)} entries, but there are {tensors}")
    return texts

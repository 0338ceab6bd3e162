"""An LSTM and a GRU written by hand, and unrolled over a sequence in a plain loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nashquant.quantization import DeQuantStub, QuantStub


class LSTMCell(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.x2h, self.h2h = nn.Linear(features, 4 * hidden), nn.Linear(hidden, 4 * hidden)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class GRUCell(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.x2h, self.h2h = nn.Linear(features, 3 * hidden), nn.Linear(hidden, 3 * hidden)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        xr, xz, xn = self.x2h(x).chunk(3, 1)
        hr, hz, hn = self.h2h(h).chunk(3, 1)
        z = torch.sigmoid(xz + hz)
        n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return (1 - z) * n + z * h


class Recurrent(nn.Module):
    """`x` (batch, steps, features): an LSTM over it, a GRU over what that gives, the last state through a linear."""

    def __init__(self, features: int = 8, hidden: int = 16, classes: int = 5) -> None:
        super().__init__()
        self.quant, self.quant_h, self.quant_c, self.dequant = QuantStub(), QuantStub(), QuantStub(), DeQuantStub()
        self.lstm, self.gru = LSTMCell(features, hidden), GRUCell(hidden, hidden)
        self.hidden, self.head = hidden, nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        zero = x.new_zeros(x.shape[0], self.hidden)
        h, c, state = self.quant_h(zero), self.quant_c(zero), self.quant_h(zero)
        x = self.quant(x)
        for step in x.unbind(1):
            h, c = self.lstm(step, h, c)
            state = self.gru(h, state)
        return self.dequant(self.head(state)), (self.dequant(h), self.dequant(c))

"""Calls that people make between the stubs and that have no entry: each with what to write instead."""

from __future__ import annotations

__all__ = ["MISSING"]

# By the name that the warning and the report show.
MISSING = {
    "lstm": "nn.LSTM hides its steps: loop over nn.LSTMCell",
    "gru": "nn.GRU hides its steps: loop over nn.GRUCell",
    "rnn_tanh": "nn.RNN hides its steps: loop over nn.RNNCell",
    "rnn_relu": "nn.RNN hides its steps: loop over nn.RNNCell",
    "bilinear": "write it as an einsum",
    "embedding_bag": "an embedding, then sum or mean",
    "var_mean": "call var and mean, each gets a grid of its own",
    "std_mean": "call std and mean, each gets a grid of its own",
    "meshgrid": "make the coordinates outside the stubs, and give them a QuantStub",
    "ctc_loss": "losses belong behind the DeQuantStub",
    "multi_margin_loss": "losses belong behind the DeQuantStub",
    "i0": "move it behind the DeQuantStub",
    "lgamma": "move it behind the DeQuantStub",
    "digamma": "move it behind the DeQuantStub",
    "erfinv": "move it behind the DeQuantStub",
    "quantile": "move it behind the DeQuantStub",
    "bucketize": "compare with the borders and sum the bools",
    "searchsorted": "compare with the borders and sum the bools",
    "unique": "its size depends on the data: move it behind the DeQuantStub",
    "bincount": "move it behind the DeQuantStub",
    "histc": "move it behind the DeQuantStub",
    "stft": "no complex numbers on the chip: move it before the QuantStub",
}

"""Runs the golden suite's GRU cases with Flax's own linen.GRUCell, over time by linen.RNN.

    python -m pip install flax==0.12.8 jax==0.10.2 safetensors==0.8.0 numpy==2.4.6   # Python 3.11
    vsepp golden make --layout flax --out SUITE
    python layout_flax.py SUITE OUT
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.flax.l{k}.ir.kernel`, … of each case; the dots separate the levels of
the cell's tree of parameters. linen has one bias each for r and z; the layout gives it the sum. The
GRUCell of flax.nnx has no bias b_hn, and cannot compute these cases.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from flax import linen
from gru_suite import main


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last state [B, H]."""
    cell = {}
    for name, value in weights.items():
        dense, kind = name.split(".")
        cell.setdefault(dense, {})[kind] = value
    layer = linen.RNN(linen.GRUCell(h0.shape[1]), return_carry=True)
    last, states = layer.apply({"params": {"cell": cell}}, x, initial_carry=h0, seq_lengths=lengths.astype(np.int32))
    return np.asarray(states), np.asarray(last)


if __name__ == "__main__":
    main("flax", gru)

"""Runs the golden suite's GRU cases with MLX's own nn.GRU.

    python -m pip install "mlx[cpu]==0.32.4" safetensors==0.8.0 numpy==2.4.6   # Linux; Python 3.11
    vsepp golden make --layout mlx --out SUITE
    python layout_mlx.py SUITE OUT
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.mlx.l{k}.Wx`, `.Wh`, `.b` and `.bhn` of each case, unchanged. MLX has
one bias each for r and z; the layout gives it the sum. MLX has no lengths: it computes all steps, and this
script picks each row's last state. Older releases hold Wx and Wh transposed.
"""

import mlx.core as mx
import numpy as np
from mlx import nn
from gru_suite import main


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last state [B, H]."""
    layer = nn.GRU(x.shape[2], h0.shape[1])
    for name, value in weights.items():
        assert getattr(layer, name).shape == value.shape, name  # MLX itself accepts any shape
        setattr(layer, name, mx.array(value))
    states = np.array(layer(mx.array(x), hidden=mx.array(h0)))
    return states, states[np.arange(len(x)), lengths.astype(int) - 1]


if __name__ == "__main__":
    main("mlx", gru)

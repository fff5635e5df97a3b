"""Runs the golden suite's GRU cases with Keras's own GRU layer.

    python -m pip install keras==3.15.1 jax==0.10.2 safetensors==0.8.0 numpy==2.4.6   # Python 3.11
    vsepp golden make --layout keras --out SUITE
    python layout_keras.py SUITE OUT                       # KERAS_BACKEND=torch takes PyTorch
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.keras.l{k}.kernel`, `.recurrent_kernel` and `.bias` of each case,
unchanged. The layout is for `reset_after=True`, Keras's default. The mask ends each row at its own length;
after that Keras repeats the last state.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import keras
import numpy as np
from gru_suite import main


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last state [B, H]."""
    layer = keras.layers.GRU(h0.shape[1], reset_after=True, return_sequences=True, return_state=True)
    layer.build(x.shape)
    layer.set_weights([weights["kernel"], weights["recurrent_kernel"], weights["bias"]])
    mask = np.arange(x.shape[1]) < lengths[:, None]
    states, last = layer(x, initial_state=keras.ops.convert_to_tensor(h0), mask=keras.ops.convert_to_tensor(mask))
    return keras.ops.convert_to_numpy(states), keras.ops.convert_to_numpy(last)


if __name__ == "__main__":
    main("keras", gru)

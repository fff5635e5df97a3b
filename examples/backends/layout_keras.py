"""The golden suite's GRU cases through Keras' own GRU layer.

    python -m pip install keras==3.15.1 jax==0.10.2 safetensors==0.8.0 numpy==2.4.6   # Python 3.11
    vsepp golden make --layout keras --out SUITE
    python layout_keras.py SUITE OUT                       # KERAS_BACKEND=torch takes PyTorch
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.keras.l{k}.kernel`, `.recurrent_kernel` and `.bias` of each case,
set as they are. `reset_after=True` is Keras' default and is what the layout is for. The mask ends
each row at its own length; behind it Keras repeats the last state.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import keras
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last one [B, H]."""
    layer = keras.layers.GRU(h0.shape[1], reset_after=True, return_sequences=True, return_state=True)
    layer.build(x.shape)
    layer.set_weights([weights["kernel"], weights["recurrent_kernel"], weights["bias"]])
    mask = np.arange(x.shape[1]) < lengths[:, None]
    states, last = layer(x, initial_state=keras.ops.convert_to_tensor(h0), mask=keras.ops.convert_to_tensor(mask))
    return keras.ops.convert_to_numpy(states), keras.ops.convert_to_numpy(last)


def run(case, tensors):
    def weights(k):
        prefix = f"layout.keras.l{k}."
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    if case["program"] == "gru_cell":
        x, h = tensors["in.x"][:, None], tensors["in.h"]
        _, last = gru(x, np.ones(len(x)), h, weights(0))
        return {"out.h_next": last}

    x, lengths, out = tensors["in.x"], tensors["in.lengths"], {}
    inside = np.arange(x.shape[1]) < lengths[:, None]
    x = np.where(inside[..., None], x, np.float32(0))  # the padding is NaN on purpose
    for k, h0 in enumerate(tensors["in.h0"]):
        x, out["out.last"] = gru(x, lengths, h0, weights(k))
        out[f"mid.l{k}.h"] = x
    return out


def main(suite, out):
    Path(out).mkdir(exist_ok=True)
    for path in sorted(Path(suite).glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            case = json.loads(file.metadata()["vsepp"])
            if case["program"] not in ("gru_cell", "gru") or case["result"] == "invalid":
                continue
            result = run(case, {name: file.get_tensor(name) for name in file.keys()})
        save_file({name: np.ascontiguousarray(value) for name, value in result.items()}, Path(out) / path.name)
        print(path.stem, *result)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The golden suite's GRU cases through MLX' own nn.GRU.

    python -m pip install "mlx[cpu]==0.32.4" safetensors==0.8.0 numpy==2.4.6   # Linux; Python 3.11
    vsepp golden make --layout mlx --out SUITE
    python layout_mlx.py SUITE OUT
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.mlx.l{k}.Wx`, `.Wh`, `.b` and `.bhn` of each case, set as they are.
MLX has one bias each for r and z; the layout gives it the sum. It knows no lengths: it computes all
steps and the row's own last state is picked. Older releases hold Wx and Wh transposed.
"""

import json
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx import nn
from safetensors import safe_open
from safetensors.numpy import save_file


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last one [B, H]."""
    layer = nn.GRU(x.shape[2], h0.shape[1])
    for name, value in weights.items():
        assert getattr(layer, name).shape == value.shape, name  # MLX itself would take any shape
        setattr(layer, name, mx.array(value))
    states = np.array(layer(mx.array(x), hidden=mx.array(h0)))
    return states, states[np.arange(len(x)), lengths.astype(int) - 1]


def run(case, tensors):
    def weights(k):
        prefix = f"layout.mlx.l{k}."
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

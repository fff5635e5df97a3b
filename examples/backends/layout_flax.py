"""The golden suite's GRU cases through Flax' own linen.GRUCell, run over time by linen.RNN.

    python -m pip install flax==0.12.8 jax==0.10.2 safetensors==0.8.0 numpy==2.4.6   # Python 3.11
    vsepp golden make --layout flax --out SUITE
    python layout_flax.py SUITE OUT
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.flax.l{k}.ir.kernel`, … of each case; their dots are the levels of
the cell's tree of parameters. linen has one bias each for r and z; the layout gives it the sum. The
GRUCell of flax.nnx has no bias behind the reset gate, and cannot compute these cases.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
from flax import linen
from safetensors import safe_open
from safetensors.numpy import save_file


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last one [B, H]."""
    cell = {}
    for name, value in weights.items():
        dense, kind = name.split(".")
        cell.setdefault(dense, {})[kind] = value
    layer = linen.RNN(linen.GRUCell(h0.shape[1]), return_carry=True)
    last, states = layer.apply({"params": {"cell": cell}}, x, initial_carry=h0, seq_lengths=lengths.astype(np.int32))
    return np.asarray(states), np.asarray(last)


def run(case, tensors):
    def weights(k):
        prefix = f"layout.flax.l{k}."
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

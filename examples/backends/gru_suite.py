"""Runs the golden suite's GRU cases with a library's GRU layer; the `layout_*.py` share this file.

`main(layout, gru)` takes a suite's folder and an output folder from the command line, runs every case of
`gru_cell` and `gru`, and writes its outputs. `gru(x, lengths, h0, weights)` is one layer: it returns all
states [B, T, H] and each row's last state [B, H]; `weights` are the case's tensors
`layout.<layout>.l{k}.*`, keyed by the rest of their names.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


def run(case, tensors, layout, gru):
    def weights(k):
        prefix = f"layout.{layout}.l{k}."
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    if case["program"] == "gru_cell":
        x, h = tensors["in.x"][:, None], tensors["in.h"]
        _, last = gru(x, np.ones(len(x)), h, weights(0))
        return {"out.h_next": last}

    x, lengths, out = tensors["in.x"], tensors["in.lengths"], {}
    inside = np.arange(x.shape[1]) < lengths[:, None]
    x = np.where(inside[..., None], x, np.float32(0))  # the padding is NaN on purpose
    zeros = np.zeros((case["config"]["num_layers"], *tensors["in.d_last"].shape), np.float32)
    for k, h0 in enumerate(tensors.get("in.h0", zeros)):
        x, out["out.last"] = gru(x, lengths, h0, weights(k))
        out[f"mid.l{k}.h"] = x
    return out


def main(layout, gru):
    suite, out = sys.argv[1:]
    Path(out).mkdir(exist_ok=True)
    for path in sorted(Path(suite).glob("*.safetensors")):
        with safe_open(path, "numpy") as file:
            case = json.loads(file.metadata()["vsepp"])
            if case["program"] not in ("gru_cell", "gru") or case["result"] == "invalid":
                continue
            result = run(case, {name: file.get_tensor(name) for name in file.keys()}, layout, gru)
        save_file({name: np.ascontiguousarray(value) for name, value in result.items()}, Path(out) / path.name)
        print(path.stem, *result)

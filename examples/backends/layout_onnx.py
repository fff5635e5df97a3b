"""Runs the golden suite's GRU cases with ONNX Runtime's own GRU operator.

    python -m pip install onnxruntime==1.32.0 onnx==1.23.2 safetensors==0.8.0 numpy==2.4.6   # Python 3.11
    vsepp golden make --layout onnx --out SUITE
    python layout_onnx.py SUITE OUT
    vsepp golden check OUT --profile f32

The weights are the tensors `layout.onnx.l{k}.W`, `.R` and `.B` of each case, unchanged. Only
`linear_before_reset=1` must be set: by default the operator applies the reset before the product.
`sequence_lens` ends each row at its own length, and `initial_h` is h0.
"""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from gru_suite import main

INPUTS = ["X", "W", "R", "B", "sequence_lens", "initial_h"]


def gru_session(hidden):
    """A model with this single operator."""
    node = helper.make_node("GRU", INPUTS, ["Y", "Y_h"], hidden_size=hidden, linear_before_reset=1)
    kind = {name: TensorProto.INT32 if name == "sequence_lens" else TensorProto.FLOAT for name in INPUTS + ["Y", "Y_h"]}
    info = {name: helper.make_tensor_value_info(name, kind[name], None) for name in kind}
    graph = helper.make_graph([node], "gru", [info[name] for name in INPUTS], [info["Y"], info["Y_h"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def gru(x, lengths, h0, weights):
    """One layer: all states [B, T, H], and each row's last state [B, H]."""
    feed = dict(weights, X=x.transpose(1, 0, 2), sequence_lens=lengths.astype(np.int32), initial_h=h0[None])
    states, last = gru_session(h0.shape[1]).run(None, feed)  # [T, 1, B, H], [1, B, H]
    return states[:, 0].transpose(1, 0, 2), last[0]


if __name__ == "__main__":
    main("onnx", gru)

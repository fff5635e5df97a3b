"""A backend for the golden suite in NumPy: every forward and backward line is written by hand.

Run
    python -m pip install "numpy>=2" safetensors
    python numpy_backend.py SUITE OUT [--precision f64|f32] [--case ID ...]
    vsepp golden check OUT --suite SUITE --profile f64

SUITE holds manifest.json and one <id>.safetensors per case; OUT receives <id>.safetensors with every
tensor of the suite: intermediates (mid.*), results (out.*), gradients (grad.*), Adam (opt.*).

Read
    Read from top to bottom: first the layers, each forward function followed by its backward function,
    then the programs that use them. A label such as (GRU-3) is the name of an equation; (GRU-3') is its
    backward line. The tensors of a case are in one dictionary `t`, under the names of the suite.

Adapt
    Copy the file, keep `main` and the checks, and replace the bodies of the programs, one after another,
    with your own. A program returns the tensors it has; leave out those that yours does not have.

Letters: B pairs, T time steps, V words, E word dimension, H hidden size, D joint dimension, F image
feature dimension, N and M rows, α margin. d_x is the derivative of the loss with respect to x, in x's
shape.

Precision: everything is computed in the chosen type. Python's floats do not widen a NumPy array, but
NumPy's float64 scalars do. So constants come from `math`, and `save` checks the type.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray as Array
from safetensors.numpy import load_file, save_file

Tensors = dict[str, Array]
Config = dict[str, Any]


# ---- What must be refused -------------------------------------------------------------------------


class Rejected(Exception):
    """The inputs are not valid; the message says why."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Rejected(message)


def require_finite(name: str, x: Array) -> None:
    require(bool(np.isfinite(x).all()), f"{name} is not finite")


def shapes(program: str, config: Config) -> dict[str, str]:
    """A program's inputs, with their shapes. Without a caption projection H is D."""
    joint = "D" if config.get("caption_projection") else "H"
    ids = {"image_ids": "B"} if config.get("mask_same_image") else {}
    rnn: dict[str, str] = {}
    for k in range(config.get("num_layers", 1)):
        rnn |= {f"txt_enc.rnn.weight_ih_l{k}": "3H H" if k else "3H E", f"txt_enc.rnn.weight_hh_l{k}": "3H H"}
        rnn |= {f"txt_enc.rnn.bias_ih_l{k}": "3H", f"txt_enc.rnn.bias_hh_l{k}": "3H"}
    match program:
        case "gru_cell":
            return {"x": "B E", "h": "B H", "d_h_next": "B H"} | rnn
        case "gru":
            return {"x": "B T E", "lengths": "B", "h0": "L B H", "d_last": "B H"} | rnn
        case "embedding":
            return {"captions": "B T", "lengths": "B", "d_words": "B T E", "txt_enc.embed.weight": "V E"}
        case "linear":
            return {"x": "N I", "d_y": "N O", "img_enc.fc.weight": "O I", "img_enc.fc.bias": "O"}
        case "l2norm":
            return {"x": "N D", "d_y": "N D"}
        case "scores":
            return {"image_embedding": "N D", "caption_embedding": "M D", "d_scores": "N M"}
        case "loss":
            return {"scores": "B B"} | ids
        case "model":
            image = {"images": "B F", "img_enc.fc.weight": f"{joint} F", "img_enc.fc.bias": joint}
            caption = {"captions": "B T", "lengths": "B", "txt_enc.embed.weight": "V E"} | rnn
            proj = {"txt_enc.proj.weight": "D H", "txt_enc.proj.bias": "D"} if joint == "D" else {}
            return image | caption | proj | ids
    return {}


def check(program: str, config: Config, given: Tensors, params: Tensors) -> None:
    """Refuses shapes that do not fit, lengths and word ids out of range, images that are not finite."""
    tensors = given | params
    sizes = {"L": config.get("num_layers", 1)}
    for name, letters in shapes(program, config).items():
        if name == "h0" and name not in given:
            continue  # then it is 0
        require(name in tensors, f"{name} is missing")
        shape, wanted = tuple(tensors[name].shape), letters.split()
        message = f"{name} has shape {shape}, expected [{', '.join(wanted)}] with {sizes}"
        require(len(shape) == len(wanted) and 0 not in shape, message)
        for size, letter in zip(shape, wanted, strict=True):
            factor = 3 if letter.startswith("3") else 1
            # The first tensor with a letter determines its size; the others must agree.
            require(size == factor * sizes.setdefault(letter.removeprefix("3"), size // factor), message)
    if "lengths" in given:
        low, high = int(given["lengths"].min()), int(given["lengths"].max())
        require(low >= 1 and high <= sizes["T"], f"lengths {low} to {high} are not within 1 to {sizes['T']}")
    if "captions" in given:  # also the ids of the padding, which may be any valid ids
        low, high = int(given["captions"].min()), int(given["captions"].max())
        require(low >= 0 and high < sizes["V"], f"word ids {low} to {high} are not within 0 to {sizes['V'] - 1}")
    if "images" in given:
        require_finite("images", given["images"])


# ---- Layers ---------------------------------------------------------------------------------------


def linear_forward(x: Array, weight: Array, bias: Array) -> Array:
    """(LIN-1) y = x Wᵀ + b: [N, I], [O, I], [O] → [N, O]."""
    return x @ weight.T + bias


def linear_backward(d_y: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """(LIN-1') dx = dy W, dW = dyᵀ x, db = Σ dy."""
    return d_y @ weight, d_y.T @ x, d_y.sum(axis=0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + e⁻ˣ), with an exponential that cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def gru_step(a: Array, c: Array, h: Array) -> tuple[Array, Array, Array, Array]:
    """One step from a = W_ih x + b_ih, c = W_hh h + b_hh [B, 3H] and h [B, H]: (r, z, n, h')."""
    (a_r, a_z, a_n), (c_r, c_z, c_n) = np.split(a, 3, axis=1), np.split(c, 3, axis=1)
    r = sigmoid(a_r + c_r)  # (GRU-1)
    z = sigmoid(a_z + c_z)  # (GRU-2)
    n = np.tanh(a_n + r * c_n)  # (GRU-3): the reset gate acts after the product W_hn h
    return r, z, n, (1 - z) * n + z * h  # (GRU-4)


def gru_step_backward(d_next: Array, r: Array, z: Array, n: Array, c: Array, h: Array) -> dict[str, Array]:
    """(GRU-4') to (GRU-1'): from dh' the derivatives for n, z, r, a, c, and for h where it enters (GRU-4)."""
    c_n = np.split(c, 3, axis=1)[2]
    d_n = d_next * (1 - z)  # (GRU-4')
    d_z = d_next * (h - n)
    d_a_n = d_n * (1 - n * n)  # (GRU-3')
    d_r = d_a_n * c_n
    d_a_z = d_z * z * (1 - z)  # (GRU-2')
    d_a_r = d_r * r * (1 - r)  # (GRU-1')
    d_a = np.concatenate([d_a_r, d_a_z, d_a_n], axis=1)
    d_c = np.concatenate([d_a_r, d_a_z, d_a_n * r], axis=1)  # the reset gate multiplies c_n, not a_n
    return {"n": d_n, "z": d_z, "r": d_r, "a": d_a, "c": d_c, "h": d_next * z}


def gru_forward(t: Tensors, x: Array, lengths: Array, h0: Array, params: Tensors, num_layers: int) -> Array:
    """All layers over all steps: x [B, T, E], h0 [L, B, H] → the top layer's last states [B, H].

    Each step computes only the captions that have not ended, so nothing after an end is ever read. The
    function leaves mid.l{k}.* in t; after an end they stay 0.
    """
    batch, steps, _ = x.shape
    hidden = h0.shape[2]
    for k in range(num_layers):
        w_ih, w_hh = params[f"txt_enc.rnn.weight_ih_l{k}"], params[f"txt_enc.rnn.weight_hh_l{k}"]
        b_ih, b_hh = params[f"txt_enc.rnn.bias_ih_l{k}"], params[f"txt_enc.rnn.bias_hh_l{k}"]
        below = x if k == 0 else t[f"mid.l{k - 1}.h"]
        for name, width in (("a", 3), ("c", 3), ("r", 1), ("z", 1), ("n", 1), ("h", 1)):
            t[f"mid.l{k}.{name}"] = np.zeros((batch, steps, width * hidden), h0.dtype)

        for time in range(steps):
            rows = np.flatnonzero(lengths > time)
            h = h0[k, rows] if time == 0 else t[f"mid.l{k}.h"][rows, time - 1]
            a = linear_forward(below[rows, time], w_ih, b_ih)
            c = linear_forward(h, w_hh, b_hh)
            r, z, n, h_next = gru_step(a, c, h)
            for name, value in {"a": a, "c": c, "r": r, "z": z, "n": n, "h": h_next}.items():
                t[f"mid.l{k}.{name}"][rows, time] = value
    return t[f"mid.l{num_layers - 1}.h"][np.arange(batch), lengths - 1]  # (TXT-1)


def gru_backward(
    t: Tensors, x: Array, lengths: Array, h0: Array, params: Tensors, num_layers: int, d_last: Array
) -> tuple[Array, Array]:
    """Backward through time, top layer first: d_last [B, H] → dx [B, T, E] and dh0 [L, B, H].

    The function leaves grad.mid.l{k}.* and the gradients of the weights in t.
    """
    batch, steps, _ = x.shape
    d_h0 = np.zeros_like(h0)
    # The gradient of a layer's states from above: for the top layer only at each caption's last step.
    d_states = np.zeros((batch, steps, h0.shape[2]), h0.dtype)
    d_states[np.arange(batch), lengths - 1] = d_last

    for k in reversed(range(num_layers)):
        w_ih, w_hh = params[f"txt_enc.rnn.weight_ih_l{k}"], params[f"txt_enc.rnn.weight_hh_l{k}"]
        below = x if k == 0 else t[f"mid.l{k - 1}.h"]
        for name in ("a", "c", "r", "z", "n", "h"):
            t[f"grad.mid.l{k}.{name}"] = np.zeros_like(t[f"mid.l{k}.{name}"])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            t[f"grad.txt_enc.rnn.{name}_l{k}"] = np.zeros_like(params[f"txt_enc.rnn.{name}_l{k}"])
        d_below = np.zeros_like(below)

        for time in reversed(range(steps)):
            rows = np.flatnonzero(lengths > time)
            h = h0[k, rows] if time == 0 else t[f"mid.l{k}.h"][rows, time - 1]
            r, z, n, c = (t[f"mid.l{k}.{name}"][rows, time] for name in ("r", "z", "n", "c"))
            # The gradient of a state: from above, plus from the next step, kept in d_h0.
            d_next = d_states[rows, time] + d_h0[k, rows]
            d = gru_step_backward(d_next, r, z, n, c, h)
            d_below[rows, time], d_w_ih, d_b_ih = linear_backward(d["a"], below[rows, time], w_ih)
            d_h, d_w_hh, d_b_hh = linear_backward(d["c"], h, w_hh)
            d_h0[k, rows] = d["h"] + d_h

            t[f"grad.txt_enc.rnn.weight_ih_l{k}"] += d_w_ih
            t[f"grad.txt_enc.rnn.weight_hh_l{k}"] += d_w_hh
            t[f"grad.txt_enc.rnn.bias_ih_l{k}"] += d_b_ih
            t[f"grad.txt_enc.rnn.bias_hh_l{k}"] += d_b_hh
            for name, value in (d | {"h": d_next}).items():
                t[f"grad.mid.l{k}.{name}"][rows, time] = value
        d_states = d_below
    return d_states, d_h0


def embedding_backward(d_words: Array, captions: Array, lengths: Array, weight: Array) -> Array:
    """(EMB-1') dW[w] += dx for every token; a word that occurs twice gets both gradients."""
    d_weight = np.zeros_like(weight)
    for ids, d_rows, length in zip(captions, d_words, lengths, strict=True):
        np.add.at(d_weight, ids[:length], d_rows[:length])
    return d_weight


def l2norm_forward(x: Array, name: str) -> tuple[Array, Array]:
    """(NORM-1) y = x / ‖x‖, no epsilon: the norms [N] and y [N, D]."""
    largest = np.abs(x).max(axis=1, keepdims=True)
    require_finite(name, largest)
    require(bool((largest > 0).all()), f"{name} has a row of zeros")
    scaled = x / largest  # keeps the squares of tiny and of huge rows in range
    length = np.sqrt((scaled * scaled).sum(axis=1, keepdims=True))
    return (largest * length)[:, 0], scaled / length


def l2norm_backward(d_y: Array, y: Array, norm: Array) -> Array:
    """(NORM-2) dx = (dy − y (y · dy)) / ‖x‖."""
    return (d_y - y * (y * d_y).sum(axis=1, keepdims=True)) / norm[:, None]


def scores_forward(f: Array, g: Array, measure: str) -> Array:
    """(SIM-1) to (SIM-3): images f [N, D], captions g [M, D] → scores [N, M]."""
    if measure == "cosine":
        return f @ g.T
    v = np.maximum(g[None, :, :] - f[:, None, :], 0)
    squared = (v * v).sum(axis=2)
    return -squared if measure == "order-squared" else -np.sqrt(squared)


def scores_backward(d_scores: Array, scores: Array, f: Array, g: Array, measure: str) -> tuple[Array, Array]:
    """The derivatives for f and g. The root of `order` has none at v = 0; there it is 0."""
    if measure == "cosine":
        return d_scores @ g, d_scores.T @ f
    v = np.maximum(g[None, :, :] - f[:, None, :], 0)
    if measure == "order-squared":
        slope = -2 * d_scores
    else:
        slope = np.divide(d_scores, scores, out=np.zeros_like(scores), where=scores != 0)
    d_v = slope[:, :, None] * v
    return -d_v.sum(axis=1), d_v.sum(axis=0)


def loss_forward(t: Tensors, scores: Array, config: Config, given: Tensors) -> None:
    """(HINGE-1), (HINGE-2), then (SH-1) to (SEMI-1). Writes mid.cost_*, mid.hardest_*, mid.active_*, out.loss."""
    require_finite("scores", scores)
    everyone = np.arange(len(scores))
    excluded = everyone[:, None] == everyone[None, :]
    if config["mask_same_image"]:
        excluded |= given["image_ids"][:, None] == given["image_ids"][None, :]

    right = scores.diagonal()
    cost_s = np.maximum(config["margin"] + scores - right[:, None], 0)  # (HINGE-1): along the row
    cost_im = np.maximum(config["margin"] + scores - right[None, :], 0)  # (HINGE-2): along the column
    cost_s[excluded] = cost_im[excluded] = 0
    if config.get("semi_hard"):  # (SEMI-1): only what scores below the right pair counts
        cost_s[scores >= right[:, None]] = 0
        cost_im[scores >= right[None, :]] = 0
    active_s, active_im = cost_s > 0, cost_im > 0  # a hinge of exactly 0 does not count
    t["mid.cost_s"], t["mid.cost_im"] = cost_s, cost_im

    if "temperature" in config:  # (LSE-1)
        raw_s, raw_im = (config["margin"] + scores - d for d in (right[:, None], right[None, :]))
        of_rows, t["mid.weight_s"] = log_sum_exp(raw_s, excluded, config["temperature"])
        of_columns, weight_im = log_sum_exp(raw_im.T, excluded, config["temperature"])
        t["mid.weight_im"] = weight_im.T
        t["out.loss"] = of_rows.sum(keepdims=True) + of_columns.sum(keepdims=True)
        return
    if "hardest" in config:  # (KH-1): of equals the first
        active_s &= rank(cost_s) < config["hardest"]
        active_im &= rank(cost_im.T).T < config["hardest"]
    elif config["max_violation"]:
        # argmax gives the first among equals, as the rule demands.
        t["mid.hardest_s"] = np.where(active_s.any(axis=1), cost_s.argmax(axis=1), -1)
        t["mid.hardest_im"] = np.where(active_im.any(axis=0), cost_im.argmax(axis=0), -1)
        active_s &= everyone[None, :] == t["mid.hardest_s"][:, None]
        active_im &= everyone[:, None] == t["mid.hardest_im"][None, :]
    t["mid.active_s"], t["mid.active_im"] = active_s.astype(np.uint8), active_im.astype(np.uint8)
    t["out.loss"] = cost_s[active_s].sum(keepdims=True) + cost_im[active_im].sum(keepdims=True)


def counts(t: Tensors) -> tuple[Array, Array]:
    """Which terms count, or with which weight."""
    kind = "weight" if "mid.weight_s" in t else "active"
    return t[f"mid.{kind}_s"], t[f"mid.{kind}_im"]


def rank(cost: Array) -> Array:
    """How many of its row come before each cost: greater ones, and equal ones with a lower index."""
    return np.argsort(np.argsort(-cost, axis=1, kind="stable"), axis=1)


def log_sum_exp(raw: Array, excluded: Array, tau: float) -> tuple[Array, Array]:
    """[τ ln Σ exp(raw / τ)]₊ of each row, and (LSE-1'), the weights of what it is made of; 0 where that is excluded."""
    raw = np.where(excluded, -np.inf, raw)
    most = raw.max(axis=1, keepdims=True)
    most[np.isneginf(most)] = 0  # a row without negatives
    exps = np.exp((raw - most) / tau)  # less the greatest, so that none overflows
    total = exps.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore"):
        value = np.maximum(most + tau * np.log(total), 0)
    return value[:, 0], np.where(value > 0, exps / np.where(total > 0, total, 1), 0)


def loss_backward(active_s: Array, active_im: Array, dtype: np.dtype) -> Array:
    """(LOSS-1) for every term that counts: +1 at its own place, −1 at its right pair."""
    active_s, active_im = active_s.astype(dtype), active_im.astype(dtype)
    return active_s + active_im - np.diag(active_s.sum(axis=1) + active_im.sum(axis=0))


# ---- Optimiser ------------------------------------------------------------------------------------


class Adam:
    """(ADAM-1) to (ADAM-3) with one global clipping (CLIP-1), (CLIP-2)."""

    BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

    def __init__(self, params: Tensors, config: Config) -> None:
        self.params = {name: p.copy() for name, p in params.items()}
        self.m = {name: np.zeros_like(p) for name, p in params.items()}
        self.v = {name: np.zeros_like(p) for name, p in params.items()}
        self.learning_rate, self.grad_clip = config["learning_rate"], config["grad_clip"]
        self.step = 0

    def update(self, gradients: Tensors) -> tuple[Array, Array]:
        """One step; returns the norm before clipping and the coefficient."""
        norm = np.sqrt(sum((g * g).sum() for g in gradients.values()))  # (CLIP-1)
        clip = norm.dtype.type(1)
        if self.grad_clip > 0:
            clip = min(self.grad_clip / (norm + 1e-6), clip)  # (CLIP-2): only if it shrinks the gradient
        self.step += 1
        step_size = self.learning_rate / (1 - self.BETA1**self.step)
        root = math.sqrt(1 - self.BETA2**self.step)
        for name, p in self.params.items():
            g, m, v = gradients[name] * clip, self.m[name], self.v[name]
            m[...] = self.BETA1 * m + (1 - self.BETA1) * g  # (ADAM-1)
            v[...] = self.BETA2 * v + (1 - self.BETA2) * g * g
            p -= step_size * m / (np.sqrt(v) / root + self.EPSILON)  # (ADAM-2), (ADAM-3)
        return norm, clip

    def tensors(self) -> Tensors:
        kinds = {"m": self.m, "v": self.v, "param": self.params}
        return {f"opt.{kind}.{name}": x for kind, part in kinds.items() for name, x in part.items()}


# ---- Programs: config, in.*, param.* (without their prefixes) → mid.*, out.*, grad.*, opt.* --------


def gru_cell(config: Config, given: Tensors, params: Tensors) -> Tensors:
    x, h, d_next = given["x"], given["h"], given["d_h_next"]
    w_ih, w_hh = params["txt_enc.rnn.weight_ih_l0"], params["txt_enc.rnn.weight_hh_l0"]

    t: Tensors = {}
    a = t["mid.a"] = linear_forward(x, w_ih, params["txt_enc.rnn.bias_ih_l0"])
    c = t["mid.c"] = linear_forward(h, w_hh, params["txt_enc.rnn.bias_hh_l0"])
    r, z, n, t["out.h_next"] = gru_step(a, c, h)
    t |= {"mid.r": r, "mid.z": z, "mid.n": n}

    d = gru_step_backward(d_next, r, z, n, c, h)
    t |= {f"grad.mid.{name}": d[name] for name in ("n", "z", "r", "a", "c")}
    d_x, t["grad.txt_enc.rnn.weight_ih_l0"], t["grad.txt_enc.rnn.bias_ih_l0"] = linear_backward(d["a"], x, w_ih)
    d_h, t["grad.txt_enc.rnn.weight_hh_l0"], t["grad.txt_enc.rnn.bias_hh_l0"] = linear_backward(d["c"], h, w_hh)
    return t | {"grad.in.x": d_x, "grad.in.h": d["h"] + d_h}


def gru(config: Config, given: Tensors, params: Tensors) -> Tensors:
    x, lengths, layers = given["x"], given["lengths"], config["num_layers"]
    h0 = given.get("h0", zero_states(given, params, config))
    t: Tensors = {}
    t["out.last"] = gru_forward(t, x, lengths, h0, params, layers)
    t["grad.in.x"], d_h0 = gru_backward(t, x, lengths, h0, params, layers, given["d_last"])
    return t | ({"grad.in.h0": d_h0} if "h0" in given else {})


def embedding(config: Config, given: Tensors, params: Tensors) -> Tensors:
    captions, lengths, weight = given["captions"], given["lengths"], params["txt_enc.embed.weight"]
    words = weight[captions]  # (EMB-1)
    d_weight = embedding_backward(given["d_words"], captions, lengths, weight)
    return {"mid.words": words, "grad.txt_enc.embed.weight": d_weight}


def linear(config: Config, given: Tensors, params: Tensors) -> Tensors:
    x, weight, bias = given["x"], params["img_enc.fc.weight"], params["img_enc.fc.bias"]
    d_x, d_weight, d_bias = linear_backward(given["d_y"], x, weight)
    gradients = {"grad.img_enc.fc.weight": d_weight, "grad.img_enc.fc.bias": d_bias, "grad.in.x": d_x}
    return {"out.y": linear_forward(x, weight, bias)} | gradients


def l2norm(config: Config, given: Tensors, params: Tensors) -> Tensors:
    norm, y = l2norm_forward(given["x"], "x")
    return {"mid.norm": norm, "out.y": y, "grad.in.x": l2norm_backward(given["d_y"], y, norm)}


def scores(config: Config, given: Tensors, params: Tensors) -> Tensors:
    f, g, d_scores = given["image_embedding"], given["caption_embedding"], given["d_scores"]
    s = scores_forward(f, g, config["measure"])
    require_finite("scores", s)
    d_f, d_g = scores_backward(d_scores, s, f, g, config["measure"])
    return {"out.scores": s, "grad.in.image_embedding": d_f, "grad.in.caption_embedding": d_g}


def loss(config: Config, given: Tensors, params: Tensors) -> Tensors:
    t: Tensors = {}
    loss_forward(t, given["scores"], config, given)
    t["grad.in.scores"] = loss_backward(*counts(t), given["scores"].dtype)
    return t


def optimiser(config: Config, given: Tensors, params: Tensors) -> Tensors:
    adam = Adam(params, config)
    for name, p in params.items():
        require(given[f"grad.{name}"].shape == (config["steps"], *p.shape), f"grad.{name} does not fit {name}")
        require_finite(f"grad.{name}", given[f"grad.{name}"])
    if "step" in given:  # continues from a given state
        adam.step = int(given["step"][0])
        for name, p in params.items():
            m, v = given[f"m.{name}"], given[f"v.{name}"]
            require(m.shape == p.shape == v.shape, f"the moments of {name} do not fit it")
            adam.m[name], adam.v[name] = m.copy(), v.copy()
    taken = [adam.update({name: given[f"grad.{name}"][k] for name in params}) for k in range(config["steps"])]
    norms, clips = zip(*taken, strict=True)
    return {"opt.norms": np.array(norms), "opt.clip": np.array(clips)} | adam.tensors()


def to_joint_space(t: Tensors, side: str, x: Array, normalise: bool, use_abs: bool) -> None:
    """From the projected x to out.{side}_embedding: (NORM-1), (ABS-1)."""
    if normalise:
        t[f"mid.{side}.norm"], x = l2norm_forward(x, side)
    if use_abs:
        t[f"mid.{side}.unit"] = x
    t[f"out.{side}_embedding"] = np.abs(x) if use_abs else x


def from_joint_space(t: Tensors, side: str, normalise: bool, use_abs: bool) -> Array:
    """From grad.out.{side}_embedding to the gradient of the projected x."""
    d = t[f"grad.out.{side}_embedding"]
    if use_abs:
        d = t[f"grad.mid.{side}.unit"] = d * np.sign(t[f"mid.{side}.unit"])  # (ABS-1'): sign(0) = 0
    if normalise:
        y = t[f"mid.{side}.unit"] if use_abs else t[f"out.{side}_embedding"]
        d = l2norm_backward(d, y, t[f"mid.{side}.norm"])
    return d


def model_forward(config: Config, given: Tensors, params: Tensors) -> Tensors:
    t: Tensors = {}
    # (IMG-1)
    projected = linear_forward(given["images"], params["img_enc.fc.weight"], params["img_enc.fc.bias"])
    t["mid.image.projected"] = projected
    to_joint_space(t, "image", projected, not config["no_imgnorm"], config["use_abs"])
    # (TXT-1), (TXT-2)
    t["mid.words"] = params["txt_enc.embed.weight"][given["captions"]]  # (EMB-1)
    h0 = zero_states(given, params, config)
    last = gru_forward(t, t["mid.words"], given["lengths"], h0, params, config["num_layers"])
    projected = t["mid.last"] = last
    if config["caption_projection"]:
        projected = linear_forward(last, params["txt_enc.proj.weight"], params["txt_enc.proj.bias"])
        t["mid.caption.projected"] = projected
    to_joint_space(t, "caption", projected, True, config["use_abs"])

    t["out.scores"] = scores_forward(t["out.image_embedding"], t["out.caption_embedding"], config["measure"])
    loss_forward(t, t["out.scores"], config, given)
    return t


def model_backward(t: Tensors, config: Config, given: Tensors, params: Tensors) -> None:
    """The backward pass of `model_forward`, from the loss to the parameters."""
    s, f, g = t["out.scores"], t["out.image_embedding"], t["out.caption_embedding"]
    d_scores = t["grad.out.scores"] = loss_backward(*counts(t), s.dtype)
    d_f, d_g = scores_backward(d_scores, s, f, g, config["measure"])
    t["grad.out.image_embedding"], t["grad.out.caption_embedding"] = d_f, d_g

    d = t["grad.mid.image.projected"] = from_joint_space(t, "image", not config["no_imgnorm"], config["use_abs"])
    d_images, d_weight, d_bias = linear_backward(d, given["images"], params["img_enc.fc.weight"])
    t |= {"grad.img_enc.fc.weight": d_weight, "grad.img_enc.fc.bias": d_bias, "grad.in.images": d_images}

    d = from_joint_space(t, "caption", True, config["use_abs"])
    if config["caption_projection"]:
        t["grad.mid.caption.projected"] = d
        d, d_weight, d_bias = linear_backward(d, t["mid.last"], params["txt_enc.proj.weight"])
        t |= {"grad.txt_enc.proj.weight": d_weight, "grad.txt_enc.proj.bias": d_bias}
    t["grad.mid.last"] = d
    lengths, h0 = given["lengths"], zero_states(given, params, config)
    d_words, _ = gru_backward(t, t["mid.words"], lengths, h0, params, config["num_layers"], d)
    t["grad.mid.words"] = d_words
    weight = params["txt_enc.embed.weight"]
    t["grad.txt_enc.embed.weight"] = embedding_backward(d_words, given["captions"], lengths, weight)


def zero_states(given: Tensors, params: Tensors, config: Config) -> Array:
    """h₀ [L, B, H] where none is given."""
    w_hh = params["txt_enc.rnn.weight_hh_l0"]
    return np.zeros((config["num_layers"], len(given["lengths"]), w_hh.shape[1]), w_hh.dtype)


def model(config: Config, given: Tensors, params: Tensors) -> Tensors:
    t = model_forward(config, given, params)
    model_backward(t, config, given, params)
    if config["steps"] > 0:
        adam = Adam(params, config)
        losses, norms = [], []
        for _ in range(config["steps"]):
            step = model_forward(config, given, adam.params)
            model_backward(step, config, given, adam.params)
            norm, _ = adam.update({name: step[f"grad.{name}"] for name in params})
            losses.append(step["out.loss"][0])
            norms.append(norm)
        t |= {"opt.losses": np.array(losses), "opt.norms": np.array(norms)} | adam.tensors()
    return t


PROGRAMS: dict[str, Callable[[Config, Tensors, Tensors], Tensors]] = {
    program.__name__: program for program in (gru_cell, gru, embedding, linear, l2norm, scores, loss, optimiser, model)
}


# ---- Files ----------------------------------------------------------------------------------------


def load(path: Path, dtype: np.dtype) -> tuple[Tensors, Tensors]:
    """in.* and param.*, without their prefixes, floats in the chosen type."""
    given, params = {}, {}
    for name, x in load_file(path).items():
        x = x.astype(dtype) if x.dtype.kind == "f" else x
        if name.startswith("in."):
            given[name.removeprefix("in.")] = x
        elif name.startswith("param."):
            params[name.removeprefix("param.")] = x
    return given, params


def save(path: Path, tensors: Tensors, dtype: np.dtype) -> None:
    wide = [name for name, x in tensors.items() if x.dtype.kind == "f" and x.dtype != dtype]
    assert not wide, f"not computed in {dtype}: {wide}"
    save_file({name: np.ascontiguousarray(x) for name, x in tensors.items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="compute the golden suite in NumPy")
    parser.add_argument("suite", type=Path, help="the folder with manifest.json")
    parser.add_argument("out", type=Path, help="where to write <id>.safetensors")
    parser.add_argument("--precision", choices=["f64", "f32"], default="f64")
    parser.add_argument("--case", nargs="+", metavar="ID", help="only these cases")
    args = parser.parse_args()
    dtype = np.dtype({"f64": np.float64, "f32": np.float32}[args.precision])
    args.out.mkdir(parents=True, exist_ok=True)

    for case in json.loads((args.suite / "manifest.json").read_text())["cases"]:
        name = case["id"]
        if args.case and name not in args.case:
            continue
        if case["program"] not in PROGRAMS:
            print(f"{name}: skipped, no program {case['program']}")
            continue
        given, params = load(args.suite / f"{name}.safetensors", dtype)
        try:
            check(case["program"], case["config"], given, params)
            tensors = PROGRAMS[case["program"]](case["config"], given, params)
            print(f"{name}: {len(tensors)} tensors")
        except Rejected as reason:
            tensors = {"out.rejected": np.ones(1, np.uint8)}
            print(f"{name}: rejected, {reason}")
        save(args.out / f"{name}.safetensors", tensors, dtype)


if __name__ == "__main__":
    main()

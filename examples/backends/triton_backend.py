"""A backend for the golden suite in Triton: the programs gru_cell and loss, forward and backward, as kernels.

Run
    python -m pip install "torch>=2.6" triton numpy safetensors
    python triton_backend.py SUITE OUT [--device cuda|cpu] [--precision f32|tf32] [--case ID ...]
    vsepp golden check OUT --suite SUITE --profile f32

SUITE holds manifest.json and one <id>.safetensors per case; OUT receives <id>.safetensors with every tensor of
the two programs. Other programs are skipped. Without a GPU, Triton's interpreter runs the kernels:
    TRITON_INTERPRET=1 python triton_backend.py SUITE OUT --device cpu

Read
    First the kernels, each with its equations, then the programs that launch them. Files, and what must be refused,
    are those of pytorch_backend.py.

Adapt
    Copy both files, and replace the kernels, one after another, with your own.

Precision
    f32   products in float, without TF32, which is Triton's default
    tf32  operands of products in TF32 (CUDA only)
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import torch
import triton
import triton.language as tl
from pytorch_backend import Config, Rejected, Setup, Tensors, check, load, require_finite, save

# Rows and columns of a tile, and terms of a product at a time. tl.dot takes tiles of at least 16 x 16.
ROWS, COLUMNS, TERMS = 16, 32, 32


# ---- Kernels: gru_cell ----------------------------------------------------------------------------


@triton.jit
def sigmoid(x):
    t = tl.exp(-tl.abs(x))  # never overflows
    return tl.where(x < 0, t, 1.0) / (1.0 + t)


@triton.jit
def tanh(x):
    t = tl.exp(-2.0 * tl.abs(x))
    # Near 0 the quotient loses digits; there the series up to the 7th power is exact in float.
    square = x * x
    series = x * (1 + square * (-1 / 3 + square * (2 / 15 - square * 17 / 315)))
    return tl.where(tl.abs(x) < 0.125, series, tl.where(x < 0, t - 1.0, 1.0 - t) / (1.0 + t))


@triton.jit
def tile(x, w, b, rows, columns, row_mask, column_mask, K, TERMS: tl.constexpr, PRECISION: tl.constexpr):
    """x[rows] w[columns]ᵀ + b[columns]: x [·, K], w [·, K], as PyTorch stores a weight."""
    sum = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for first in range(0, K, TERMS):
        k = first + tl.arange(0, TERMS)
        x_k = tl.load(x + rows[:, None] * K + k[None, :], row_mask[:, None] & (k < K)[None, :], 0.0)
        w_k = tl.load(w + columns[:, None] * K + k[None, :], column_mask[:, None] & (k < K)[None, :], 0.0)
        sum = tl.dot(x_k, tl.trans(w_k), sum, input_precision=PRECISION)
    return sum + tl.load(b + columns, column_mask, 0.0)[None, :]


@triton.jit
def gru_cell_forward(
    x, h, w_ih, w_hh, b_ih, b_hh, a, c, r, z, n, h_next, B, E, H,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """a = W_ih x + b_ih, c = W_hh h + b_hh [B, 3H], gates r, z, n; one tile [ROWS, COLUMNS] of h' a program.

    (GRU-1)  r = σ(a_r + c_r)      (GRU-2)  z = σ(a_z + c_z)
    (GRU-3)  n = tanh(a_n + r ∘ c_n)
    (GRU-4)  h' = (1 − z) ∘ n + z ∘ h
    """
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_batch, in_state = i < B, k < H
    mask = in_batch[:, None] & in_state[None, :]
    at, at_gates = i[:, None] * H + k[None, :], i[:, None] * 3 * H + k[None, :]

    a_r = tile(x, w_ih, b_ih, i, k, in_batch, in_state, E, TERMS, PRECISION)
    a_z = tile(x, w_ih, b_ih, i, k + H, in_batch, in_state, E, TERMS, PRECISION)
    a_n = tile(x, w_ih, b_ih, i, k + 2 * H, in_batch, in_state, E, TERMS, PRECISION)
    c_r = tile(h, w_hh, b_hh, i, k, in_batch, in_state, H, TERMS, PRECISION)
    c_z = tile(h, w_hh, b_hh, i, k + H, in_batch, in_state, H, TERMS, PRECISION)
    c_n = tile(h, w_hh, b_hh, i, k + 2 * H, in_batch, in_state, H, TERMS, PRECISION)

    gate_r, gate_z = sigmoid(a_r + c_r), sigmoid(a_z + c_z)
    gate_n = tanh(a_n + gate_r * c_n)
    state = tl.load(h + at, mask, 0.0)
    tl.store(h_next + at, (1.0 - gate_z) * gate_n + gate_z * state, mask)

    tl.store(a + at_gates, a_r, mask)
    tl.store(a + at_gates + H, a_z, mask)
    tl.store(a + at_gates + 2 * H, a_n, mask)
    tl.store(c + at_gates, c_r, mask)
    tl.store(c + at_gates + H, c_z, mask)
    tl.store(c + at_gates + 2 * H, c_n, mask)
    tl.store(r + at, gate_r, mask)
    tl.store(z + at, gate_z, mask)
    tl.store(n + at, gate_n, mask)


@triton.jit
def gru_cell_backward(d_next, h, c, r, z, n, dr, dz, dn, da, dc, dh, B, H, BLOCK: tl.constexpr):
    """The gates' gradients, and the direct part of dh; BLOCK elements of [B, H] a program.

    (GRU-4′)  dn = dh' ∘ (1 − z),  dz = dh' ∘ (h − n),  dh += dh' ∘ z
    (GRU-3′)  da_n = dn ∘ (1 − n²),  dr = da_n ∘ c_n,  dc_n = da_n ∘ r
    (GRU-2′)  da_z = dc_z = dz ∘ z ∘ (1 − z)      (GRU-1′)  da_r = dc_r = dr ∘ r ∘ (1 − r)
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < B * H
    at_gates = (at // H) * 3 * H + at % H
    d = tl.load(d_next + at, mask, 0.0)
    state, c_n = tl.load(h + at, mask, 0.0), tl.load(c + at_gates + 2 * H, mask, 0.0)
    gate_r, gate_z, gate_n = tl.load(r + at, mask, 0.0), tl.load(z + at, mask, 0.0), tl.load(n + at, mask, 0.0)

    d_n, d_z = d * (1.0 - gate_z), d * (state - gate_n)
    da_n = d_n * (1.0 - gate_n * gate_n)
    d_r = da_n * c_n
    da_z, da_r = d_z * gate_z * (1.0 - gate_z), d_r * gate_r * (1.0 - gate_r)

    tl.store(dh + at, d * gate_z, mask)
    tl.store(dn + at, d_n, mask)
    tl.store(dz + at, d_z, mask)
    tl.store(dr + at, d_r, mask)
    tl.store(da + at_gates, da_r, mask)
    tl.store(da + at_gates + H, da_z, mask)
    tl.store(da + at_gates + 2 * H, da_n, mask)
    tl.store(dc + at_gates, da_r, mask)
    tl.store(dc + at_gates + H, da_z, mask)
    tl.store(dc + at_gates + 2 * H, da_n * gate_r, mask)  # only here do a and c differ


@triton.jit
def add_product(
    y, p, q, M, N, K, p_m, p_k, q_k, q_n,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, TERMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y [M, N] += p [M, K] q [K, N]; p_m is the distance of p's rows in memory, and so on: exchanged they transpose."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sum = tl.zeros((ROWS, COLUMNS), tl.float32)
    for first in range(0, K, TERMS):
        k = first + tl.arange(0, TERMS)
        p_tile = tl.load(p + m[:, None] * p_m + k[None, :] * p_k, (m < M)[:, None] & (k < K)[None, :], 0.0)
        q_tile = tl.load(q + k[:, None] * q_k + n[None, :] * q_n, (k < K)[:, None] & (n < N)[None, :], 0.0)
        sum = tl.dot(p_tile, q_tile, sum, input_precision=PRECISION)
    at, mask = y + m[:, None] * N + n[None, :], (m < M)[:, None] & (n < N)[None, :]
    tl.store(at, tl.load(at, mask, 0.0) + sum, mask)


@triton.jit
def column_sums(y, p, M, N, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """y [N] = Σ_m p[m, n]"""
    n = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    sum = tl.zeros((COLUMNS,), tl.float32)
    for first in range(0, M, ROWS):
        m = first + tl.arange(0, ROWS)
        sum += tl.sum(tl.load(p + m[:, None] * N + n[None, :], (m < M)[:, None] & (n < N)[None, :], 0.0), 0)
    tl.store(y + n, sum, n < N)


# ---- Kernels: loss --------------------------------------------------------------------------------


@triton.jit
def costs(
    scores, image_ids, cost, weight, hardest, terms, B, margin, tau, to_query, to_candidate,
    MOST: tl.constexpr, SEMI_HARD: tl.constexpr, LOG_SUM_EXP: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One query a program: image i along its row of the scores, or caption j along its column.

    cost_s[i, j] = max(0, α + S_ij − S_ii), j ≠ i; where masked, only if j is of another image
    Every cost above 0 counts, or the MOST greatest, among equals the first; semi-hard: of those that score below
    the right pair. Log-sum-exp: τ ln Σ exp(cost / τ), and each negative counts with its weight in it.
    """
    q, k = tl.program_id(0), tl.arange(0, BLOCK)
    at = q * to_query + k * to_candidate
    right = tl.load(scores + q * (to_query + to_candidate))
    counted = (k < B) & (k != q)
    if MASKED:
        counted = counted & (tl.load(image_ids + k, k < B, 0) != tl.load(image_ids + q))
    score = tl.load(scores + at, k < B, 0.0)
    raw = margin + score - right
    c = tl.where(counted, tl.maximum(raw, 0.0), 0.0)
    if SEMI_HARD:
        c = tl.where(score < right, c, 0.0)
    counts = (c > 0.0).to(tl.float32)
    if MOST > 0:
        before = (c[None, :] > c[:, None]) | ((c[None, :] == c[:, None]) & (k[None, :] < k[:, None]))
        rank = tl.sum(before.to(tl.int32), 1)
        counts = tl.where(rank < MOST, counts, 0.0)
    if MOST == 1:
        tl.store(hardest + q, tl.where(tl.max(c, 0) > 0.0, tl.argmax(c, 0, tie_break_left=True), -1).to(tl.int64))
    value = tl.sum(counts * c, 0)
    if LOG_SUM_EXP:
        most = tl.max(tl.where(counted, raw, float("-inf")), 0)
        exps = tl.where(counted, tl.exp((raw - most) / tau), 0.0)  # less the greatest, so that none overflows
        sum = tl.sum(exps, 0)
        value = tl.maximum(most + tau * tl.log(sum), 0.0)
        counts = tl.where(value > 0.0, exps / sum, 0.0)
    tl.store(cost + at, c, k < B)
    tl.store(weight + at, counts.to(weight.dtype.element_ty), k < B)
    tl.store(terms + q, value)


@triton.jit
def costs_backward(weight_s, weight_im, d_scores, B, BLOCK: tl.constexpr):
    """Row i of the gradient: each term adds its weight at its own place and takes it from its right pair."""
    i, j = tl.program_id(0), tl.arange(0, BLOCK)
    row_s = tl.load(weight_s + i * B + j, j < B, 0).to(tl.float32)
    row_im = tl.load(weight_im + i * B + j, j < B, 0).to(tl.float32)
    column_im = tl.load(weight_im + j * B + i, j < B, 0).to(tl.float32)
    pairs = tl.sum(row_s, 0) + tl.sum(column_im, 0)
    tl.store(d_scores + i * B + j, row_s + row_im - tl.where(j == i, pairs, 0.0), j < B)


@triton.jit
def total(y, x, N, BLOCK: tl.constexpr):
    """y = Σ x [N]"""
    sum = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, N, BLOCK):
        at = first + tl.arange(0, BLOCK)
        sum += tl.load(x + at, at < N, 0.0)
    tl.store(y, tl.sum(sum, 0))


# ---- Programs: config, in.*, param.* (without their prefixes) → mid.*, out.*, grad.* ---------------


def multiply_add(y: torch.Tensor, p: torch.Tensor, q: torch.Tensor, precision: str) -> None:
    """y += p q; p and q may be transposed views."""
    (m, k), n = p.shape, q.shape[1]
    grid = (triton.cdiv(m, ROWS), triton.cdiv(n, COLUMNS))
    add_product[grid](y, p, q, m, n, k, *p.stride(), *q.stride(), ROWS, COLUMNS, TERMS, precision)


def gru_cell(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    x, h, d_next = given["x"], given["h"], given["d_h_next"]
    w_ih, w_hh, b_ih, b_hh = (
        params[f"txt_enc.rnn.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    (B, E), H, precision = x.shape, h.shape[1], "tf32" if setup.precision == "tf32" else "ieee"
    a, c = x.new_empty(B, 3 * H), x.new_empty(B, 3 * H)
    r, z, n, h_next = (torch.empty_like(h) for _ in range(4))
    grid = (triton.cdiv(B, ROWS), triton.cdiv(H, COLUMNS))
    gru_cell_forward[grid](
        x, h, w_ih, w_hh, b_ih, b_hh, a, c, r, z, n, h_next, B, E, H, ROWS, COLUMNS, TERMS, precision
    )

    dr, dz, dn, dh = (torch.empty_like(h) for _ in range(4))
    da, dc = torch.empty_like(a), torch.empty_like(c)
    gru_cell_backward[(triton.cdiv(B * H, 256),)](d_next, h, c, r, z, n, dr, dz, dn, da, dc, dh, B, H, 256)
    dx, dw_ih, dw_hh = torch.zeros_like(x), torch.zeros_like(w_ih), torch.zeros_like(w_hh)
    multiply_add(dx, da, w_ih, precision)
    multiply_add(dh, dc, w_hh, precision)
    multiply_add(dw_ih, da.T, x, precision)
    multiply_add(dw_hh, dc.T, h, precision)
    db_ih, db_hh = torch.empty_like(b_ih), torch.empty_like(b_hh)
    for db, d in (db_ih, da), (db_hh, dc):
        column_sums[(triton.cdiv(3 * H, COLUMNS),)](db, d, B, 3 * H, ROWS, COLUMNS)

    return {
        "mid.a": a, "mid.c": c, "mid.r": r, "mid.z": z, "mid.n": n, "out.h_next": h_next,
        "grad.mid.n": dn, "grad.mid.z": dz, "grad.mid.r": dr, "grad.mid.a": da, "grad.mid.c": dc,
        "grad.txt_enc.rnn.weight_ih_l0": dw_ih, "grad.txt_enc.rnn.weight_hh_l0": dw_hh,
        "grad.txt_enc.rnn.bias_ih_l0": db_ih, "grad.txt_enc.rnn.bias_hh_l0": db_hh,
        "grad.in.x": dx, "grad.in.h": dh,
    }  # fmt: skip


def loss(config: Config, given: Tensors, params: Tensors, setup: Setup) -> Tensors:
    scores, masked, tau = given["scores"], config["mask_same_image"], config.get("temperature", 0.0)
    most = config.get("hardest", 1) if config["max_violation"] and not tau else 0
    semi_hard = config.get("semi_hard", False)
    require_finite("scores", scores)
    B = len(scores)
    block = max(16, triton.next_power_of_2(B))
    terms, tensors, weights = scores.new_empty(2 * B), {}, []
    # A row is a query among captions, a column one among images.
    for place, (side, to_query, to_candidate) in enumerate([("s", B, 1), ("im", 1, B)]):
        cost, hardest = torch.empty_like(scores), torch.empty(B, dtype=torch.int64, device=scores.device)
        weight = torch.empty_like(scores, dtype=scores.dtype if tau else torch.uint8)
        costs[(B,)](
            scores, given["image_ids"] if masked else hardest, cost, weight, hardest, terms[place * B :],
            B, config["margin"], tau, to_query, to_candidate, most, semi_hard, tau > 0, masked, block,
        )  # fmt: skip
        tensors |= {f"mid.cost_{side}": cost, f"mid.{'weight' if tau else 'active'}_{side}": weight}
        weights.append(weight)
        if most == 1:
            tensors[f"mid.hardest_{side}"] = hardest
    d_scores, value = torch.empty_like(scores), scores.new_empty(1)
    costs_backward[(B,)](*weights, d_scores, B, block)
    total[(1,)](value, terms, 2 * B, 128)
    return tensors | {"out.loss": value, "grad.in.scores": d_scores}


PROGRAMS = {program.__name__: program for program in (gru_cell, loss)}


def main() -> None:
    parser = argparse.ArgumentParser(description="compute the golden suite in Triton")
    parser.add_argument("suite", type=Path, help="the folder with manifest.json")
    parser.add_argument("out", type=Path, help="where to write <id>.safetensors")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--precision", choices=["f32", "tf32"], default="f32")
    parser.add_argument("--case", nargs="+", metavar="ID", help="only these cases")
    args = parser.parse_args()
    if args.device == "cpu" and (args.precision == "tf32" or os.environ.get("TRITON_INTERPRET") != "1"):
        print("on a CPU: TRITON_INTERPRET=1, and --precision f32", file=sys.stderr)
        sys.exit(2)
    setup = Setup(args.device, args.precision)
    args.out.mkdir(parents=True, exist_ok=True)

    for case in json.loads((args.suite / "manifest.json").read_text())["cases"]:
        name = case["id"]
        if case["program"] not in PROGRAMS or (args.case and name not in args.case):
            continue
        given, params = load(args.suite / f"{name}.safetensors", setup)
        try:
            check(case["program"], case["config"], given, params)
            tensors = PROGRAMS[case["program"]](case["config"], given, params, setup)
            print(f"{name}: {len(tensors)} tensors")
        except Rejected as reason:
            tensors = {"out.rejected": torch.ones(1, dtype=torch.uint8)}
            print(f"{name}: rejected, {reason}")
        save(args.out / f"{name}.safetensors", tensors, setup)


if __name__ == "__main__":
    main()

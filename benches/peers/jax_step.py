"""JAX's training step: forward, backward, clip, Adam, compiled as one.

    python jax_step.py --batch FILE.safetensors --threads N

FILE holds `captions` [B, T] int64 padded with 0, `lengths` [B] int64, `images` [B, F] float32, and the
parameters under their names in the checkpoints. protocol.py describes input and output; the value is the
loss before the step.

Captions are padded to the longest of the batch, and a caption that has ended keeps its state: JAX would
compile anew for every new shape. All input products are one product; the recurrence is `lax.scan`,
`--unroll N` steps at a time (0: all of them, which gives the same result and takes longer to compile).
Compiling and sorting by length are not timed.
"""

from __future__ import annotations

import math
import os
from functools import partial

from protocol import GRAD_CLIP, LEARNING_RATE, MARGIN, arguments, serve

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


def main() -> None:
    parser = arguments("JAX's training step", "captions, lengths, images, parameters")
    parser.add_argument("--unroll", type=int, default=1, metavar="N")
    args = parser.parse_args()
    # XLA reads the number of threads when it is loaded, and only from the environment.
    os.environ["NPROC"] = str(args.threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if args.threads == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false"

    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax
    from safetensors.numpy import load_file

    tensors = load_file(args.batch)
    order = np.argsort(-tensors["lengths"], kind="stable")
    images, captions, lengths = (tensors[name][order] for name in ("images", "captions", "lengths"))
    # Arguments of the compiled step, not constants in it: in a training they change with every step.
    batch = (jnp.asarray(images), jnp.asarray(captions.astype(np.int32)), jnp.asarray(lengths.astype(np.int32)))
    names = [name for name in tensors if name.startswith(("img_enc.", "txt_enc."))]
    parameters = {name: jnp.asarray(tensors[name]) for name in names}
    del tensors, images, captions, lengths

    def l2norm(x):
        return x / jnp.linalg.norm(x, axis=1, keepdims=True)

    def embed_captions(p, captions, lengths):
        hidden = p["txt_enc.rnn.weight_hh_l0"].shape[1]
        words = p["txt_enc.embed.weight"][captions.T]  # [T, B, E]
        a = words @ p["txt_enc.rnn.weight_ih_l0"].T + p["txt_enc.rnn.bias_ih_l0"]
        going = jnp.arange(captions.shape[1])[:, None] < lengths[None, :]

        def cell(h, step):
            a, going = step
            c = h @ p["txt_enc.rnn.weight_hh_l0"].T + p["txt_enc.rnn.bias_hh_l0"]
            r, z = jnp.split(jax.nn.sigmoid(a[:, : 2 * hidden] + c[:, : 2 * hidden]), 2, axis=1)
            n = jnp.tanh(a[:, 2 * hidden :] + r * c[:, 2 * hidden :])
            return jnp.where(going[:, None], (1 - z) * n + z * h, h), None

        start = jnp.zeros((captions.shape[0], hidden), a.dtype)
        last, _ = lax.scan(cell, start, (a, going), unroll=args.unroll or captions.shape[1])
        return l2norm(last)

    def loss_of(p, images, captions, lengths):
        f = l2norm(images @ p["img_enc.fc.weight"].T + p["img_enc.fc.bias"])
        scores = f @ embed_captions(p, captions, lengths).T
        own = jnp.diagonal(scores)
        right = jnp.eye(len(own), dtype=bool)
        cost_s = jnp.where(right, 0, jnp.maximum(MARGIN + scores - own[:, None], 0))
        cost_im = jnp.where(right, 0, jnp.maximum(MARGIN + scores - own[None, :], 0))
        return cost_s.max(axis=1).sum() + cost_im.max(axis=0).sum()

    # The new parameters and moments reuse the memory of the old ones.
    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(p, m, v, t, batch):
        loss, g = jax.value_and_grad(loss_of)(p, *batch)
        norm = jnp.sqrt(sum(jnp.vdot(x, x) for x in jax.tree.leaves(g)))
        scale = jnp.minimum(1.0, GRAD_CLIP / (norm + 1e-6))
        g = jax.tree.map(lambda g: g * scale, g)
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        size, root = LEARNING_RATE / (1 - BETA1**t), jnp.sqrt(1 - BETA2**t)
        p = jax.tree.map(lambda p, m, v: p - size * m / (jnp.sqrt(v) / root + EPSILON), p, m, v)
        return p, m, v, loss

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = [parameters, zeros, jax.tree.map(jnp.zeros_like, parameters), 0.0]
    compiled = step.lower(*state[:3], jnp.float32(1), batch).compile()

    def run() -> float:
        state[3] += 1
        *state[:3], loss = compiled(*state[:3], jnp.float32(state[3]), batch)
        jax.block_until_ready(state[:3])
        value = float(loss)
        if not math.isfinite(value):
            raise FloatingPointError(f"loss {value}")
        return value

    serve("JAX", jax.__version__, args.threads, run)


if __name__ == "__main__":
    main()

"""Encodes captions in PyTorch: sorted by length, 128 at a time, packed, without gradients.

    python pytorch_encode.py --batch FILE.safetensors --threads N

FILE holds `captions` [M, T] int64 padded with 0, `lengths` [M] int64, and the parameters under their
names in the checkpoints. protocol.py describes input and output; the value is the mean magnitude of the
embeddings' entries.

Sorting and splitting into batches are done once and not timed.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from protocol import arguments, serve
from vse_torch import vse_of


@torch.no_grad()
def main() -> None:
    parser = arguments("PyTorch's encoding of captions", "captions, lengths, parameters")
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    tensors = load_file(args.batch)
    model = vse_of(tensors)
    order = torch.argsort(tensors["lengths"], descending=True, stable=True)
    batches = []
    for chosen in order.split(args.batch_size):
        lengths = tensors["lengths"][chosen]
        batches.append((chosen, tensors["captions"][chosen, : int(lengths[0])], lengths))
    g = torch.empty(len(order), model.img_enc["fc"].out_features)

    def encode() -> float:
        for chosen, captions, lengths in batches:
            g[chosen] = model.embed_captions(captions, lengths)
        return g.abs().mean(dtype=torch.float64).item()

    serve("PyTorch", torch.__version__, torch.get_num_threads(), encode)


if __name__ == "__main__":
    main()

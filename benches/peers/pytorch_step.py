"""PyTorch's training step: forward, backward, clip, Adam, on one batch.

    python pytorch_step.py --batch FILE.safetensors --threads N

FILE holds `captions` [B, T] int64 padded with 0, `lengths` [B] int64, `images` [B, F] float32, and the
parameters under their names in the checkpoints. protocol.py describes input and output; the value is the
loss before the step.

Sorting the batch by length is done once and not timed. `--fused` uses Adam's fused kernel, which is not
PyTorch's default.
"""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from protocol import GRAD_CLIP, LEARNING_RATE, MARGIN, arguments, serve
from vse_torch import train_step, vse_of


def main() -> None:
    parser = arguments("PyTorch's training step", "captions, lengths, images, parameters")
    parser.add_argument("--fused", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    batch = load_file(args.batch)
    model = vse_of(batch)
    order = torch.argsort(batch["lengths"], descending=True, stable=True)
    images, captions, lengths = (batch[name][order] for name in ("images", "captions", "lengths"))
    del batch
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=args.fused or None)

    def step() -> float:
        return train_step(
            model,
            optimizer,
            images,
            captions,
            lengths,
            margin=MARGIN,
            max_violation=True,
            grad_clip=GRAD_CLIP,
        )

    serve("PyTorch", torch.__version__, torch.get_num_threads(), step)


if __name__ == "__main__":
    main()

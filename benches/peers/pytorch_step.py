"""One PyTorch training step at a time, for an interleaved benchmark.

    python pytorch_step.py --batch FILE.safetensors --threads N [--embed-size 1024 --word-dim 300
        --vocab 11755 --img-dim 4096 --num-layers 1 --max-violation]

FILE holds `captions` [B, T] int64 padded with 0, `lengths` [B] int64, `images` [B, F] float32.
Prints {"ready": true, "torch": "<version>", "threads": N}, then for each line "step" on standard
input runs one step (forward, backward, clip, Adam) and prints {"seconds", "loss", "peak_rss_mb"}.
Ends with the input. The parent alternates its own steps with these, so that both meet the same
machine. The peak of memory is that of the whole process since its start, PyTorch itself included.

Sorting the batch by length is done once, before the clock. `--fused` takes Adam's fused kernel,
which is not PyTorch's default.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time

import torch
from safetensors.torch import load_file

from vse_torch import Vse, train_step


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def peak_rss_mb() -> float:
    """Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def main() -> None:
    parser = argparse.ArgumentParser(description="PyTorch's training step, one for each line on standard input")
    parser.add_argument("--batch", required=True, help="safetensors file with captions, lengths, images")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--embed-size", type=int, default=1024)
    parser.add_argument("--word-dim", type=int, default=300)
    parser.add_argument("--vocab", type=int, default=11755)
    parser.add_argument("--img-dim", type=int, default=4096)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--max-violation", action="store_true", help="hardest negatives (default: all negatives)")
    parser.add_argument("--no-imgnorm", action="store_true")
    parser.add_argument("--margin", type=float, default=0.2)
    parser.add_argument("--grad-clip", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fused", action="store_true")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    batch = load_file(args.batch)
    order = torch.argsort(batch["lengths"], descending=True, stable=True)
    images, captions, lengths = (batch[name][order] for name in ("images", "captions", "lengths"))
    if images.shape[1] != args.img_dim:
        parser.error(f"images: expected [B, F = {args.img_dim}], got {list(images.shape)}")
    if int(captions.max()) >= args.vocab:
        parser.error(f"captions: token {int(captions.max())} is outside the vocabulary of {args.vocab}")

    model = Vse(args.vocab, args.word_dim, args.embed_size, args.img_dim, args.num_layers, args.no_imgnorm)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate, fused=args.fused or None)
    say(ready=True, torch=torch.__version__, threads=torch.get_num_threads())

    for line in sys.stdin:
        if line.strip() != "step":
            continue
        start = time.perf_counter()
        loss = train_step(
            model,
            optimizer,
            images,
            captions,
            lengths,
            margin=args.margin,
            max_violation=args.max_violation,
            grad_clip=args.grad_clip,
        )
        seconds = time.perf_counter() - start
        say(seconds=seconds, loss=loss, peak_rss_mb=round(peak_rss_mb(), 1))


if __name__ == "__main__":
    main()

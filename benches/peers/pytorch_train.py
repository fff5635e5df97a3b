"""Trains VSE++ in PyTorch on a folder of precomputed features: the peer for retrieval quality.

    python pytorch_train.py --data DIR --seed 0 --max-violation

DIR holds {train,dev,test}_ims.npy and {train,dev,test}_caps.txt, one caption per line. Captions are
lower-cased and split by NLTK's `word_tokenize`, which needs the `punkt_tab` data (`NLTK_DATA` is
honoured); tokens are cached in the folder of `--token-cache`. The vocabulary is the training words
seen at least `--min-count` times, in order of first occurrence, after <pad> <start> <end> <unk>.

Prints one JSON line per epoch: {"epoch", "lr", "train_loss", "dev", "dev_rsum", "seconds"}, then one
for the test split with the parameters of the best dev rsum: {"best_epoch", "best_dev_rsum",
"test"}. `train_loss` is the mean over the epoch's batches of the loss, which is a sum over a batch.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from nltk.tokenize import word_tokenize
from torch import Tensor

from vse_torch import Vse, train_step

PAD, START, END, UNK = range(4)


@dataclass
class Split:
    """Captions as token ids; caption k belongs to row `owner[k]` of `images`."""

    images: Tensor
    captions: list[list[int]]
    owner: Tensor


def tokenize(path: Path, cache_dir: Path) -> list[list[str]]:
    """The words of each line of a caption file, from the cache if the same text is in it."""
    text = path.read_text(encoding="utf-8")
    cached = cache_dir / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    if cached.exists():
        return json.loads(cached.read_text())
    words = [word_tokenize(line.strip().lower()) for line in text.splitlines()]
    cache_dir.mkdir(parents=True, exist_ok=True)
    cached.write_text(json.dumps(words))
    return words


def build_vocabulary(captions: list[list[str]], min_count: int) -> dict[str, int]:
    counts = Counter(word for caption in captions for word in caption)  # keeps the order of first occurrence
    words = ["<pad>", "<start>", "<end>", "<unk>", *(w for w, n in counts.items() if n >= min_count)]
    return {word: index for index, word in enumerate(words)}


def load_split(data: Path, name: str, words: list[list[str]], vocabulary: dict[str, int]) -> Split:
    images = torch.from_numpy(np.load(data / f"{name}_ims.npy").astype(np.float32))
    if len(words) == len(images):  # each image is there once for each of its five captions
        images = images[::5]
    if len(words) % len(images):
        raise SystemExit(f"{name}: {len(words)} captions are not a multiple of {len(images)} images")
    captions = [[START, *(vocabulary.get(w, UNK) for w in caption), END] for caption in words]
    owner = torch.arange(len(captions)) // (len(captions) // len(images))
    return Split(images, captions, owner)


def collate(captions: list[list[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded ids and lengths, longest caption first, and the order that sorted them."""
    lengths = torch.tensor([len(c) for c in captions])
    order = torch.argsort(lengths, descending=True, stable=True)
    padded = torch.full((len(captions), int(lengths.max())), PAD)
    for row, index in enumerate(order.tolist()):
        padded[row, : len(captions[index])] = torch.tensor(captions[index])
    return padded, lengths[order], order


@torch.no_grad()
def embed_split(model: Vse, split: Split, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    f = model.embed_images(split.images)
    g = torch.empty(len(split.captions), f.shape[1])
    by_length = sorted(range(len(split.captions)), key=lambda k: -len(split.captions[k]))
    for start in range(0, len(by_length), batch_size):
        chosen = torch.tensor(by_length[start : start + batch_size])
        captions, lengths, order = collate([split.captions[k] for k in chosen.tolist()])
        g[chosen[order]] = model.embed_captions(captions, lengths)
    return f.numpy(), g.numpy()


def ranks_of(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rank from 0 of column right[r] in row r: rivals with a greater score, or an equal one and a lower index."""
    own = scores[np.arange(len(scores)), right][:, None]
    lower = np.arange(scores.shape[1])[None, :] < right[:, None]
    return ((scores > own) | ((scores == own) & lower)).sum(axis=1)


def recall(ranks: np.ndarray) -> dict[str, float]:
    at_k = {f"r{k}": round(100.0 * float(np.mean(ranks < k)), 4) for k in (1, 5, 10)}
    return {**at_k, "medr": float(np.floor(np.median(ranks)) + 1), "meanr": round(float(ranks.mean() + 1), 4)}


def evaluate(model: Vse, split: Split, batch_size: int) -> tuple[dict[str, dict[str, float]], float]:
    """Recall in both directions, and rsum, the sum of the six recalls."""
    f, g = embed_split(model, split, batch_size)
    scores = f @ g.T
    n, per_image = len(f), len(g) // len(f)
    own = scores.reshape(n, n, per_image)[np.arange(n), np.arange(n)]
    best = np.arange(n) * per_image + own.argmax(axis=1)
    result = {
        "image_to_text": recall(ranks_of(scores, best)),
        "text_to_image": recall(ranks_of(scores.T, split.owner.numpy())),
    }
    return result, round(sum(way[f"r{k}"] for way in result.values() for k in (1, 5, 10)), 4)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="train VSE++ in PyTorch on precomputed features")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    loss = parser.add_mutually_exclusive_group()
    loss.add_argument("--max-violation", dest="max_violation", action="store_true", help="hardest negatives (default)")
    loss.add_argument("--sum-violation", dest="max_violation", action="store_false", help="all negatives")
    parser.set_defaults(max_violation=True)
    parser.add_argument("--embed-size", type=int, default=1024)
    parser.add_argument("--word-dim", type=int, default=300)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--lr-update", type=int, default=15)
    parser.add_argument("--num-epochs", type=int, default=30)
    parser.add_argument("--grad-clip", type=float, default=2.0)
    parser.add_argument("--margin", type=float, default=0.2)
    parser.add_argument("--no-imgnorm", action="store_true")
    parser.add_argument("--min-count", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--token-cache", type=Path, default=Path(tempfile.gettempdir()) / "vsepp-tokens")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    words = {name: tokenize(args.data / f"{name}_caps.txt", args.token_cache) for name in ("train", "dev", "test")}
    vocabulary = build_vocabulary(words["train"], args.min_count)
    train, dev, test = (load_split(args.data, name, words[name], vocabulary) for name in ("train", "dev", "test"))

    img_dim = train.images.shape[1]
    model = Vse(len(vocabulary), args.word_dim, args.embed_size, img_dim, args.num_layers, args.no_imgnorm)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.learning_rate)

    best_epoch, best_rsum, best_state = 0, -1.0, copy.deepcopy(model.state_dict())
    for epoch in range(args.num_epochs):
        started = time.perf_counter()
        lr = args.learning_rate * 0.1 ** (epoch // args.lr_update)
        for group in optimizer.param_groups:
            group["lr"] = lr

        losses = []
        for chosen in torch.randperm(len(train.captions)).split(args.batch_size):
            captions, lengths, order = collate([train.captions[k] for k in chosen.tolist()])
            loss = train_step(
                model,
                optimizer,
                train.images[train.owner[chosen[order]]],
                captions,
                lengths,
                margin=args.margin,
                max_violation=args.max_violation,
                grad_clip=args.grad_clip,
            )
            losses.append(loss)

        result, rsum = evaluate(model, dev, args.batch_size)
        if rsum > best_rsum:
            best_epoch, best_rsum, best_state = epoch + 1, rsum, copy.deepcopy(model.state_dict())
        line = {
            "epoch": epoch + 1,
            "lr": lr,
            "train_loss": round(float(np.mean(losses)), 4),
            "dev": result,
            "dev_rsum": rsum,
            "seconds": round(time.perf_counter() - started, 2),
        }
        print(json.dumps(line), flush=True)

    model.load_state_dict(best_state)
    result, rsum = evaluate(model, test, args.batch_size)
    final = {
        "best_epoch": best_epoch,
        "best_dev_rsum": best_rsum,
        "test": {**result, "rsum": rsum},
        "vocabulary": len(vocabulary),
        "torch": torch.__version__,
    }
    print(json.dumps(final), flush=True)


if __name__ == "__main__":
    main()

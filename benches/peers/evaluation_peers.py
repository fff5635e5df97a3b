"""Ranks of images and captions in both directions, from embeddings, by three other methods.

    python evaluation_peers.py --batch FILE.safetensors --threads N --method numpy|pytorch|loop

FILE holds `images` [N, D] and `captions` [5N, D]; captions 5i … 5i + 4 belong to image i. protocol.py
describes input and output; the value is the sum of the six recalls.

`numpy` and `pytorch` compute all scores in one product and count the rivals ahead. `loop` does what the
original's evaluation does: for every image it scores all captions, sorts them and looks up the positions of
the image's own five; then for the five captions of every image it scores all images, sorts them and looks up
the position of the image. The parent sets NumPy's threads in the environment (OMP_NUM_THREADS,
OPENBLAS_NUM_THREADS).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from protocol import arguments, serve

EACH = 5


def rsum(*ways: NDArray[np.int64]) -> float:
    """The recalls at 1, 5 and 10 of ranks from 0, in per cent, summed."""
    return float(sum(100.0 * np.mean(ranks < k) for ranks in ways for k in (1, 5, 10)))


def count_numpy(images: NDArray[np.float32], captions: NDArray[np.float32]) -> float:
    scores = images @ captions.T
    n = len(images)
    own = scores.reshape(n, n, EACH)[np.arange(n), np.arange(n)]
    i2t = (scores > own.max(axis=1)[:, None]).sum(axis=1)
    t2i = (scores > own.reshape(-1)[None, :]).sum(axis=0)
    return rsum(i2t, t2i)


def count_pytorch(threads: int, images: NDArray[np.float32], captions: NDArray[np.float32]) -> tuple[str, object]:
    import torch

    torch.set_num_threads(threads)
    f, g = torch.from_numpy(images), torch.from_numpy(captions)

    @torch.no_grad()
    def count() -> float:
        scores = f @ g.T
        n = len(f)
        own = scores.view(n, n, EACH)[torch.arange(n), torch.arange(n)]
        i2t = (scores > own.max(dim=1).values[:, None]).sum(dim=1)
        t2i = (scores > own.reshape(-1)[None, :]).sum(dim=0)
        return rsum(i2t.numpy(), t2i.numpy())

    return torch.__version__, count


def sort_each(images: NDArray[np.float32], captions: NDArray[np.float32]) -> float:
    i2t = np.empty(len(images), dtype=np.int64)
    t2i = np.empty(len(captions), dtype=np.int64)
    for i in range(len(images)):
        order = np.argsort(captions @ images[i])[::-1]
        i2t[i] = min(np.where(order == c)[0][0] for c in range(i * EACH, (i + 1) * EACH))
    for i in range(len(images)):
        scores = captions[i * EACH : (i + 1) * EACH] @ images.T
        for c, row in enumerate(scores):
            t2i[i * EACH + c] = np.where(np.argsort(row)[::-1] == i)[0][0]
    return rsum(i2t, t2i)


def main() -> None:
    parser = arguments("ranks both ways", "images and captions, embedded")
    parser.add_argument("--method", choices=("numpy", "pytorch", "loop"), required=True)
    args = parser.parse_args()
    tensors = load_file(args.batch)
    images, captions = tensors["images"], tensors["captions"]
    if len(captions) != EACH * len(images):
        parser.error(f"captions: expected {EACH} for each of the {len(images)} images, found {len(captions)}")
    if args.method == "pytorch":
        version, work = count_pytorch(args.threads, images, captions)
        serve("PyTorch", version, args.threads, work)
    elif args.method == "numpy":
        serve("NumPy", np.__version__, args.threads, lambda: count_numpy(images, captions))
    else:
        serve("NumPy loop", np.__version__, args.threads, lambda: sort_each(images, captions))


if __name__ == "__main__":
    main()

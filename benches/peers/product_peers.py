"""A matrix product, or several in turn, in NumPy (OpenBLAS) or PyTorch.

    python product_peers.py --batch FILE.safetensors --threads N --method numpy|pytorch

FILE holds `a` and `b`; `form` [1]: 0 for a bᵀ, 1 for a b, 2 for aᵀ b; and `rows`, the rows of each call, which
take turns through a. protocol.py describes input and output; the value is the mean magnitude in the last row.
The result is written to memory that is allocated once. The parent sets NumPy's threads in the environment
(OMP_NUM_THREADS, OPENBLAS_NUM_THREADS).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from safetensors.numpy import load_file

from protocol import arguments, serve


def main() -> None:
    parser = arguments("a matrix product", "a, b, form and rows")
    parser.add_argument("--method", choices=("numpy", "pytorch"), required=True)
    args = parser.parse_args()
    tensors = load_file(args.batch)
    a, b, form = tensors["a"], tensors["b"], int(tensors["form"][0])
    a, b = (a.T if form == 2 else a), (b.T if form == 0 else b)
    ends = np.cumsum(tensors["rows"])
    calls = [slice(int(end - rows), int(end)) for rows, end in zip(tensors["rows"], ends)]
    multiply: Callable[..., object] = np.matmul
    c = np.empty((a.shape[0], b.shape[1]), np.float32)
    last, name, version = c[-1], "NumPy", np.__version__
    if args.method == "pytorch":
        import torch

        torch.set_num_threads(args.threads)
        a, b, c = (torch.from_numpy(x) for x in (a, b, c))
        multiply, name, version = torch.mm, "PyTorch", torch.__version__

    def work() -> float:
        for rows in calls:
            multiply(a[rows], b, out=c[rows])
        return float(np.abs(last).mean(dtype=np.float64))

    serve(name, version, args.threads, work)


if __name__ == "__main__":
    main()

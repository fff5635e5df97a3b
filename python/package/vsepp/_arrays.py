"""Arrays of any library as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# NumPy's kind and bytes, and the name of the type in safetensors.
ELEMENTS = {
    "f2": "F16", "f4": "F32", "f8": "F64",
    "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64",
    "u1": "U8", "u2": "U16", "u4": "U32", "u8": "U64", "b1": "BOOL",
}  # fmt: skip


def numbers(name: str, x: Any) -> tuple[str, NDArray[np.float64]]:
    """The type of an array's numbers, as in safetensors, and the numbers in ``float64``.

    ``x``: an array of NumPy, PyTorch (on any device, with or without a gradient) or JAX, or a list.
    """
    element = None
    if hasattr(x, "detach"):  # PyTorch's; NumPy has no bfloat16
        x = x.detach().cpu()
        if str(x.dtype) == "torch.bfloat16":
            element, x = "BF16", x.float()
        x = x.numpy()
    array = np.asarray(x)
    if element is None:  # JAX's bfloat16 is a type of the package ml_dtypes
        bfloat16 = array.dtype.name == "bfloat16"
        element = "BF16" if bfloat16 else ELEMENTS.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    if element is None:
        raise TypeError(f"{name}: expected an array of real numbers, found {type(x).__name__} of {array.dtype}")
    return element, np.ascontiguousarray(array, dtype=np.float64).reshape(array.shape)


def matrix(name: str, x: Any) -> NDArray[np.float32]:
    """An array [N, D] in ``float32``."""
    _, array = numbers(name, x)
    if array.ndim != 2:
        raise ValueError(f"{name}: expected a matrix, found shape {list(array.shape)}")
    with np.errstate(over="ignore"):  # infinity is refused where vectors are compared
        return array.astype(np.float32)

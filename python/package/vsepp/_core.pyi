import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

class Suite:
    def __init__(self, folder: str | os.PathLike[str]) -> None: ...
    def check(
        self,
        tensors: list[tuple[str, str, str, NDArray[np.float64]]],
        profile: str,
        cases: list[str],
        complete: bool,
    ) -> tuple[bool, str, str]: ...

def fuzz(
    backend: Callable[
        [str], tuple[list[tuple[str, str, str, NDArray[np.float64]]], list[tuple[str, str]]]
    ],
    seeds: int,
    first: int,
    programs: list[str],
    profile: str,
    out: str | os.PathLike[str],
) -> tuple[bool, str, str]: ...
def recall(
    images: NDArray[np.float32],
    captions: NDArray[np.float32],
    image_ids: NDArray[np.int64] | None,
    measure: str,
    normalize: bool,
    folds: int,
) -> tuple[str, list[str]]: ...

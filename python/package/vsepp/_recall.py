"""Recall of embeddings, as ``vsepp eval --embeddings`` computes it."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _core
from ._arrays import matrix, numbers


@dataclass(frozen=True)
class Recall:
    """The figures of one direction."""

    r1: float
    """R@1 in percent: how often the first of those found is right."""
    r5: float
    """R@5 in percent."""
    r10: float
    """R@10 in percent."""
    medr: float
    """The median rank, from 1."""
    meanr: float
    """The mean rank, from 1."""
    tied: int
    """Queries for which a wrong candidate has exactly the score of the right one."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of both directions."""

    images: int
    captions: int
    folds: int
    image_to_text: Recall
    text_to_image: Recall
    rsum: float
    """The sum of the six recalls."""


def recall(
    images: Any,
    captions: Any,
    image_ids: Any = None,
    *,
    measure: str = "cosine",
    normalize: bool = False,
    folds: int = 1,
) -> Evaluation:
    """R@1, R@5, R@10, median and mean rank, from images to captions and back.

    Parameters
    ----------
    images
        [N, D]: a vector for each image. Where each row has one caption, equal rows are one image, so that the
        rows of an image may be repeated for each of its captions; a warning says so.
    captions
        [M, D]: a vector for each caption.
    image_ids
        [M]: the row of each caption's image. Without it every image has M / N captions, image by image.
    measure
        ``"cosine"`` (the plain inner product), ``"order"`` or ``"order-squared"``.
    normalize
        Divide every vector by its length first.
    folds
        Give the mean over this many equal parts of the images (COCO 1K: 5).

    Raises
    ------
    ValueError
        If the arrays do not fit or a number is not finite; the message says which, what was expected, what was found.
    """
    f, g = matrix("images", images), matrix("captions", captions)
    ids = None
    if image_ids is not None:
        element, rows = numbers("image_ids", image_ids)
        if rows.ndim != 1 or element[0] not in "IU":
            raise ValueError(f"image_ids: expected whole numbers [M], found {element} {list(rows.shape)}")
        ids = rows.astype(np.int64)
    if measure == "cosine" and not normalize:
        for name, vectors in ("images", f), ("captions", g):
            lengths = np.einsum("nd,nd->n", vectors, vectors)
            if np.any(np.abs(lengths - 1) >= 1e-2):
                advice = "scores are plain inner products (normalize=True gives the cosine)"
                warnings.warn(f"{name}: the rows are not unit vectors; {advice}", stacklevel=2)
    text, notes = _core.recall(f, g, ids, measure, normalize, folds)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    found = json.loads(text)
    found |= {key: Recall(**found[key]) for key in ("image_to_text", "text_to_image")}
    return Evaluation(**found)

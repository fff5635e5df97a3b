"""Recall, compared with a few lines of NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vsepp


def vectors(n: int = 40, captions: int = 5) -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    f = random.standard_normal((n, 16))
    g = f.repeat(captions, axis=0) + 1.5 * random.standard_normal((n * captions, 16))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (f, g)]
    return unit[0].astype(np.float32), unit[1].astype(np.float32)


def ranks(f: Any, g: Any, image_of: Any) -> tuple[Any, Any]:
    """The best rank of each image's captions, and the rank of each caption's image, from 0."""
    scores = f @ g.T
    places = (-scores).argsort(axis=1).argsort(axis=1)
    images = [places[i, image_of == i].min() for i in range(len(f))]
    captions = (-scores).argsort(axis=0).argsort(axis=0)[image_of, np.arange(len(g))]
    return np.array(images), captions


def test_the_figures_are_those_of_a_few_lines() -> None:
    f, g = vectors()
    found = vsepp.recall(f, g)
    for figures, r in zip((found.image_to_text, found.text_to_image), ranks(f, g, np.arange(200) // 5), strict=True):
        assert [figures.r1, figures.r5, figures.r10] == pytest.approx([100 * np.mean(r < k) for k in (1, 5, 10)])
        assert figures.medr == np.floor(np.median(r)) + 1 and figures.meanr == pytest.approx(r.mean() + 1)
    recalls = [r for side in (found.image_to_text, found.text_to_image) for r in (side.r1, side.r5, side.r10)]
    assert found.rsum == pytest.approx(sum(recalls)) and 100 < found.rsum < 590
    assert (found.images, found.captions, found.folds) == (40, 200, 1)


def test_captions_in_any_order() -> None:
    f, g = vectors()
    order = np.random.default_rng(2).permutation(200)
    assert vsepp.recall(f, g[order], order // 5) == vsepp.recall(f, g)


def test_repeated_rows_are_one_image() -> None:
    f, g = vectors()
    with pytest.warns(UserWarning, match="200 rows are 40 images"):
        assert vsepp.recall(f.repeat(5, axis=0), g) == vsepp.recall(f, g)


def test_lengths_folds_and_measures() -> None:
    f, g = vectors()
    with pytest.warns(UserWarning, match="images: the rows are not unit vectors"):
        vsepp.recall(3 * f, g)
    assert vsepp.recall(3 * f, g, normalize=True).rsum == pytest.approx(vsepp.recall(f, g).rsum)
    assert vsepp.recall(f, g, folds=4).folds == 4
    assert vsepp.recall(f, g, measure="order").rsum != vsepp.recall(f, g).rsum


def test_arrays_of_other_libraries() -> None:
    f, g = vectors()
    if torch := pytest.importorskip("torch"):
        assert vsepp.recall(torch.tensor(f, requires_grad=True), torch.tensor(g)) == vsepp.recall(f, g)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f, g: (f, g[:7]), "captions: expected a multiple of the 40 images, found 7"),
        (lambda f, g: (g, f), "captions: expected a multiple of the 200 images, found 40; are the two exchanged?"),
        (lambda f, g: (f, g[:, :3]), "captions: expected .M, D = 16., the dimension of images, found .200, 3."),
        (lambda f, g: (f[0], g), "images: expected a matrix, found shape .16."),
        (lambda f, g: (f[:0], g), "images: expected at least one vector"),
        (lambda f, g: (f * np.nan, g), "images: NaN at .0, 0.: every value must be finite"),
        (lambda f, g: (f, g, np.arange(3)), "image_ids: expected .M = 200., the image of each caption, found .3."),
        (lambda f, g: (f, g, np.arange(200)), "image_ids: caption 40: expected the row of an image, 0 to 39, found 40"),
        (lambda f, g: (f, g, np.zeros(200, int)), "image_ids: expected at least one caption for each of the 40 images"),
        (lambda f, g: (f, g, np.ones(200)), "image_ids: expected whole numbers .M., found F64"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*unit vectors")
def test_arrays_that_do_not_fit(change: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        vsepp.recall(*change(*vectors()))


def test_settings_that_do_not_exist() -> None:
    f, g = vectors()
    with pytest.raises(ValueError, match="measure: unknown variant `dot`, expected one of `cosine`"):
        vsepp.recall(f, g, measure="dot")
    with pytest.raises(ValueError, match="folds = 3: expected a number that divides the 40 images"):
        vsepp.recall(f, g, folds=3)

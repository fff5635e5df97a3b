"""Golden values for implementations of VSE++, with explanations, and recall.

``vsepp.golden`` has the cases and compares arrays with them; ``pytest`` finds the fixture ``golden_case``.
``vsepp.recall`` gives R@1, R@5, R@10, median and mean rank. Arrays may be NumPy's, PyTorch's or JAX's.
"""

from . import golden
from ._recall import Evaluation, Recall, recall

__all__ = ["Evaluation", "Recall", "golden", "recall"]

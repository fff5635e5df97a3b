"""The backend of the tests: examples/backends/numpy_backend.py, which is right."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "backends"))
pytest_plugins = ["pytester"]


@pytest.fixture
def compute() -> Any:
    """The outputs of a case."""
    kit = pytest.importorskip("numpy_backend")

    def run(case: Any) -> dict[str, Any]:
        given, params = {}, {}
        for name, x in case.inputs.items():
            group, _, rest = name.partition(".")
            (given if group == "in" else params)[rest] = x
        try:
            kit.check(case.program, case.config, given, params)
            return kit.PROGRAMS[case.program](case.config, given, params)
        except kit.Rejected:
            return {"out.rejected": [1]}

    return run

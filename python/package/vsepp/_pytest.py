"""The plugin of pytest: a test with the argument ``golden_case`` runs once for each case.

    @pytest.mark.golden(program="gru_cell", profile="f32")
    def test_gru(golden_case):
        golden_case.check({"out.h_next": my_gru(golden_case.inputs)})
"""

from __future__ import annotations

import pytest

from .golden import Case, _with, cases

MARKER = (
    "golden(suite='core', program, id, family, flag, result=('valid', 'acceptable'), profile='f32', complete=False): "
    "the cases of the fixture golden_case, and how they are checked; each of program to result is a value or several"
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("golden")
    chosen = dict(marker.kwargs) if marker else {}
    profile, complete = chosen.pop("profile", "f32"), chosen.pop("complete", False)
    chosen.setdefault("result", ("valid", "acceptable"))
    try:
        found = [_with(case, profile, complete) for case in cases(*(marker.args if marker else ()), **chosen)]
        if not found:
            raise ValueError(f"no case has all of {chosen}")
    except (TypeError, ValueError) as e:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: pytest.mark.golden: {e}") from e
    metafunc.parametrize("golden_case", found, ids=[case.id for case in found], indirect=True)


@pytest.fixture
def golden_case(request: pytest.FixtureRequest) -> Case:
    """A case of a golden suite; ``@pytest.mark.golden(program=…)`` chooses which. See ``vsepp.golden.Case``."""
    case: Case = request.param
    return case

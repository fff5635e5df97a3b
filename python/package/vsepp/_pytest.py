"""The plugin of pytest: a test with the argument ``golden_case`` runs once for each case.

    @pytest.mark.golden(program="gru_cell", profile="f32")
    def test_gru(golden_case):
        golden_case.check({"out.h_next": my_gru(golden_case.inputs)})

After the tests it checks the cases of each function once more, all together, if one of them failed: what explains
several cases is more certain than what explains one.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from .golden import PROFILES, Case, _check, cases

MARKER = (
    "golden(suite='core', program, id, family, flag, result=('valid', 'acceptable'), profile='f32', complete=False): "
    "the cases of the fixture golden_case, and how they are checked; each of program to result is a value or several"
)
FUNCTIONS = pytest.StashKey[dict[str, list[Case]]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", MARKER)
    config.stash[FUNCTIONS] = {}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_case" not in metafunc.fixturenames:
        return
    marker, name = metafunc.definition.get_closest_marker("golden"), metafunc.definition.nodeid
    chosen = dict(marker.kwargs) if marker else {}
    how = {"profile": chosen.pop("profile", "f32"), "complete": chosen.pop("complete", False), "checked": {}}
    chosen.setdefault("result", ("valid", "acceptable"))
    try:
        found = [replace(case, **how) for case in cases(*(marker.args if marker else ()), **chosen)]
        if not found:
            raise ValueError(f"no case has all of {chosen}")
        if how["profile"] not in PROFILES:
            raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, found {how['profile']!r}")
    except (TypeError, ValueError) as e:
        raise pytest.UsageError(f"{name}: pytest.mark.golden: {e}") from e
    metafunc.config.stash[FUNCTIONS][name] = found
    metafunc.parametrize("golden_case", found, ids=[case.id for case in found], indirect=True)


@pytest.fixture
def golden_case(request: pytest.FixtureRequest) -> Case:
    """A case of a golden suite; ``@pytest.mark.golden(program=…)`` chooses which. See ``vsepp.golden.Case``."""
    case: Case = request.param
    return case


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, (case, *_) in config.stash[FUNCTIONS].items():
        checked = case.checked or {}
        if len(checked) < 2:
            continue
        report = _check(checked, case.suite, case.profile, list(checked), case.complete)
        if not report.passed:
            terminalreporter.section(f"golden: {name}, {len(checked)} cases together")
            terminalreporter.write_line(report.text)

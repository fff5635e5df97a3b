"""The fixture ``golden_case``, in tests that pytest runs inside these tests."""

from __future__ import annotations

import pytest

from vsepp import golden

CELLS = len(golden.cases(program="gru_cell", result=("valid", "acceptable")))
WRONG = """
    import pytest
    from backend import outputs

    @pytest.mark.golden(program="gru_cell", profile="f32")
    def test_gru(golden_case):
        wrong = outputs(golden_case)
        wrong["mid.c"] = 0 * wrong["mid.c"] + 1
        golden_case.check(wrong)
"""


def test_each_case_is_a_test_and_says_what_is_wrong(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    pytester.makepyfile(WRONG)
    result = pytester.runpytest("-k", "gru-cell-smallest")
    result.assert_outcomes(failed=1, deselected=CELLS - 1)
    result.stdout.fnmatch_lines(
        [
            "*test_gru[[]gru-cell-smallest[]]*",
            "E  *vsepp.golden.Mismatch: *",
            "E  *[[]0, *[]]*: expected *, found 1*",
            "E  *suite core, profile f32: 1 of 1 cases found, 17 tensors compared",
            "FAILED *::test_gru[[]gru-cell-smallest[]] - vsepp.golden.Mismatch: *",
        ]
    )
    result.stdout.fnmatch_lines(["E  *mid.c*gru-cell-smallest*"])
    result.stdout.no_fnmatch_line("*def check(*")


def test_the_cases_of_a_function_are_also_checked_together(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(WRONG)
    result = pytester.runpytest()
    result.assert_outcomes(failed=CELLS)
    result.stdout.fnmatch_lines(
        [
            f"*golden: *::test_gru, {CELLS} cases together*",
            f"*{CELLS} of {CELLS} cases found*",
            f"FAILED: {CELLS} of {CELLS} cases",
        ]
    )


def test_a_green_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.golden(id="loss-mh-worked-example")
        def test_loss(golden_case):
            assert golden_case.program == "loss"

        @pytest.mark.golden(program="loss", result="invalid")
        def test_refusal(golden_case):
            golden_case.check({"out.rejected": 1})

        def test_without_a_marker(golden_case):
            assert golden_case.result != "invalid"
        """
    )
    result = pytester.runpytest()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*golden: *")


@pytest.mark.parametrize(
    ("marker", "text"),
    [
        ("program='gru_cel'", "has no case of program 'gru_cel'"),
        ("program='loss', flag='two-layers'", "no case has all of"),
        ("profile='fp32'", "profile: expected one of f64"),
        ("programme='loss'", "unexpected keyword argument 'programme'"),
    ],
)
def test_a_marker_that_cannot_be_meant(pytester: pytest.Pytester, marker: str, text: str) -> None:
    pytester.makepyfile(f"import pytest\n@pytest.mark.golden({marker})\ndef test_it(golden_case): pass\n")
    result = pytester.runpytest()
    assert result.ret != 0
    assert text in result.stdout.str() + result.stderr.str()

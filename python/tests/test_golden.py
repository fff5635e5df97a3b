"""Cases, their check, and arrays of other libraries."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from backend import outputs as outputs_of

from vsepp import golden


def test_the_cases_are_those_of_the_suites() -> None:
    core, pictures = golden.cases(), golden.cases("pictures")
    assert len(core) > 200 and {case.program for case in pictures} >= {"conv", "resnet"}
    assert core["gru-cell-smallest"] is core[0] and "gru-cell-smallest" in core and "no-case" not in core
    assert all(case.inputs for case in core)
    with pytest.raises(KeyError, match="there is no case x"):
        core["x"]


def test_cases_are_chosen() -> None:
    both = golden.cases(program=["gru_cell", "loss"])
    assert {case.program for case in both} == {"gru_cell", "loss"}
    assert all("tie" in case.flags for case in golden.cases(flag="tie"))
    assert {case.result for case in golden.cases(result="invalid")} == {"invalid"}
    with pytest.raises(
        ValueError, match="suite core has no case of program 'gru_cel'; there are embedding, gru, gru_cell"
    ):
        golden.cases(program="gru_cel")


def test_inputs_are_new_arrays_of_the_suites_types() -> None:
    case = golden.cases()["loss-mh-worked-example"]
    first = case.inputs["in.scores"]
    assert first.dtype == np.float32 and first.flags.writeable and first.shape == case.outputs["grad.in.scores"]
    first[:] = 0
    assert case.inputs["in.scores"].any()
    lengths = golden.cases(program="gru", flag="unsorted")[0].inputs["in.lengths"]
    assert lengths.dtype == np.int64


def test_a_right_backend_passes() -> None:
    report = golden.check({case.id: outputs_of(case) for case in golden.cases()}, complete=True)
    assert report.passed and report.failures == (), str(report)
    assert report.text.rstrip().splitlines()[-1].startswith(f"PASSED: {len(golden.cases())} cases")


def test_a_wrong_backend_fails_with_place_and_example() -> None:
    case = golden.cases()["gru-cell-e3-h2"]
    outputs = outputs_of(case)
    outputs["mid.c"][1, 3] += 0.5
    report = golden.check({case.id: outputs})
    assert not report.passed and [(f.case, f.tensor) for f in report.failures] == [(case.id, "mid.c")]
    failure = report.failures[0]
    assert failure.index == (1, 3) and failure.stage == "gru layer 0" and failure.tolerances > 1000
    assert failure.found == pytest.approx(failure.expected + 0.5, rel=1e-6)
    assert report.json["passed"] is False
    with pytest.raises(golden.Mismatch) as caught:
        case.check(outputs)
    assert isinstance(caught.value, AssertionError) and caught.value.report.failures == report.failures
    # The explanation comes before the list of stages.
    explanation = str(caught.value).partition("\nsuite core, profile f32: ")[0]
    assert all(part in explanation for part in ("mid.c", case.id, "[1, 3]", "expected"))


@pytest.mark.parametrize("name", ["mid.c", "out.h_next", "grad.in.x"])
def test_one_tensor_alone(name: str) -> None:
    case = golden.cases()["gru-cell-smallest"]
    with pytest.raises(golden.Mismatch, match=name):
        case.check({name: np.ones(case.outputs[name])})


def test_what_is_missing_counts_if_asked() -> None:
    case = golden.cases()["gru-cell-e3-h2"]
    outputs = {"out.h_next": outputs_of(case)["out.h_next"]}
    assert case.check(outputs).passed
    with pytest.raises(golden.Mismatch, match="not written"):
        case.check(outputs, complete=True)
    assert not golden.check({case.id: outputs}, complete=True).passed


def test_an_input_that_must_be_refused() -> None:
    case = golden.cases(program="loss", result="invalid")[0]
    assert case.check({"out.rejected": 1}).passed
    with pytest.raises(golden.Mismatch, match="must be refused"):
        case.check({"out.rejected": 0})


@pytest.mark.parametrize(
    ("outputs", "error", "text"),
    [
        ({"no-case": {"out.y": 1.0}}, ValueError, "there is no case no-case in the suite core"),
        ({"out.h_next": 1.0}, TypeError, "out.h_next: expected a dict of tensor names and arrays, found float"),
        ({"gru-cell-e3-h2": {"out.h_next": None}}, TypeError, "out.h_next: expected an array of real numbers"),
        ({"gru-cell-e3-h2": {"out.h_next": [1j]}}, TypeError, "complex128"),
    ],
)
def test_calls_that_cannot_be_meant(outputs: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        golden.check(outputs)


def test_names_and_profiles_that_do_not_exist() -> None:
    case = golden.cases()["gru-cell-e3-h2"]
    with pytest.raises(ValueError, match="found h_next; expected some of mid.a, mid.c"):
        case.check({"h_next": 1.0})
    with pytest.raises(ValueError, match="profile: expected one of f64, .*found 'float32'"):
        case.check({"out.h_next": 1.0}, profile="float32")
    with pytest.raises(ValueError, match="manifest.json"):
        golden.cases("no-such-folder")


def test_the_type_counts() -> None:
    case = golden.cases()["gru-cell-e3-h2"]
    with pytest.raises(golden.Mismatch, match="expected F64 under profile f64, found F32"):
        case.check(outputs_of(case), profile="f64")


def test_arrays_of_torch() -> None:
    torch = pytest.importorskip("torch")
    case = golden.cases()["gru-cell-e3-h2"]
    right = {name: torch.tensor(x, requires_grad=True) for name, x in outputs_of(case).items()}
    assert case.check(right).passed
    assert case.check({name: x.bfloat16() for name, x in right.items()}, profile="bf16").passed
    with pytest.raises(golden.Mismatch, match="found BF16"):
        case.check({name: x.bfloat16() for name, x in right.items()})
    turned = {"mid.a": right["mid.a"].T.contiguous().T}
    assert case.check(turned).passed


def test_arrays_of_jax() -> None:
    jnp = pytest.importorskip("jax.numpy")
    case = golden.cases()["loss-mh-worked-example"]
    right = {name: jnp.asarray(x) for name, x in outputs_of(case).items()}
    assert right["mid.hardest_s"].dtype == jnp.int32 and case.check(right).passed
    low = {"out.loss": right["out.loss"].astype(jnp.bfloat16)}
    assert case.check(low, profile="bf16").passed
    with pytest.raises(golden.Mismatch, match="found BF16"):
        case.check(low)


def test_other_threads_run_during_a_check() -> None:
    """A thread that counts gets on while the suite is compared; with the interpreter locked it could not."""
    outputs = {case.id: outputs_of(case) for case in golden.cases(program="model", result="valid")[:6]}
    for tensors in outputs.values():
        tensors["out.loss"] = tensors["out.loss"] + 1
    counted, done = [], threading.Event()

    def count() -> None:
        while not done.wait(0.001):
            counted.append(None)

    thread = threading.Thread(target=count)
    numbers = [(case, name, *golden.numbers(name, x)) for case, t in outputs.items() for name, x in t.items()]
    core = golden._open("core").core
    thread.start()
    before = len(counted)
    core.check(numbers, "f32", [], False)
    during = len(counted) - before
    done.set()
    thread.join()
    assert during > 10


def test_random_cases_pass_a_right_backend(tmp_path) -> None:
    assert golden.fuzz(outputs_of, seeds=5, out=tmp_path / "smallest") == 45
    assert not (tmp_path / "smallest").exists()


def test_the_smallest_wrong_case_is_raised(tmp_path) -> None:
    def wrong(case: golden.Case) -> dict[str, Any]:
        outputs = outputs_of(case)
        outputs["out.h_next"][:, 16:] += 1
        return outputs

    with pytest.raises(golden.Mismatch, match="out.h_next in fuzz-gru-cell-") as caught:
        golden.fuzz(wrong, program="gru_cell", out=tmp_path / "smallest")
    case = caught.value.case
    assert case is not None and case.inputs["in.h"].shape == (1, 17) and "H = 17" in caught.value.report.text
    assert {failure.tensor for failure in caught.value.report.failures} == {"out.h_next"}
    assert golden.cases(tmp_path / "smallest")[0].inputs["in.h"].shape == (1, 17)
    assert case.check(outputs_of(case)).passed


def test_an_exception_is_a_wrong_result_and_an_interrupt_ends_the_search() -> None:
    def wrong(case: golden.Case) -> dict[str, Any]:
        raise RuntimeError("no kernel for this size")

    with pytest.raises(golden.Mismatch, match="RuntimeError: no kernel for this size") as caught:
        golden.fuzz(wrong, seeds=1, program=["linear", "l2norm"])
    assert isinstance(caught.value.__cause__, RuntimeError)

    def interrupted(case: golden.Case) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        golden.fuzz(interrupted, seeds=1)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"program": "lstm"}, "lstm"), ({"seeds": 0}, "seeds"), ({"profile": "f8"}, "profile: expected"), ({"out": "."}, "exists")],
)
def test_what_fuzz_cannot_mean_is_an_error(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        golden.fuzz(outputs_of, **arguments)

"""The golden suites: inputs with known answers, and what is wrong where an answer differs.

>>> from vsepp import golden
>>> case = golden.cases(program="gru_cell")["gru-cell-smallest"]
>>> case.inputs["in.x"].shape
(1, 2)
>>> golden.check({case.id: {"out.h_next": [[0.0, 0.0]]}}).passed
False

The names of the tensors, their shapes and the conventions are in ``docs/golden.md`` of the repository.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._arrays import ELEMENTS, numbers

__all__ = ["Case", "Cases", "Failure", "Mismatch", "PROFILES", "Report", "cases", "check", "fuzz"]

PROFILES = ("f64", "f32", "tf32", "bf16", "f16")
"""The precisions in which a backend may compute."""

Outputs = Mapping[str, Any]
"""A case's tensors by name: arrays of NumPy, PyTorch or JAX."""


@dataclass(frozen=True)
class Failure:
    """A tensor that is wrong, or a case that is wrong as a whole (then ``tensor`` is None)."""

    case: str
    tensor: str | None
    stage: str | None
    """The step of the data flow that computes the tensor."""
    problem: str
    index: tuple[int, ...]
    """Where the largest error is."""
    expected: float | None
    found: float | None
    tolerances: float | None
    """The error in units of what is allowed; None if it is not finite."""


@dataclass(frozen=True)
class Report:
    """The result of a check."""

    passed: bool
    """Something was compared, and nothing is wrong."""
    text: str = field(repr=False)
    """What ``vsepp golden check`` prints."""
    failures: tuple[Failure, ...] = field(repr=False)
    """Case by case, and within a case in the order of the data flow."""
    json: Mapping[str, Any] = field(repr=False)
    """What ``vsepp golden check --json`` prints."""

    def __str__(self) -> str:
        return self.text


class Mismatch(AssertionError):
    """A case is wrong; the message says what, where, and shows one value. ``report`` has all of it.

    ``case`` is the smallest case that `fuzz` found.
    """

    def __init__(self, report: Report, case: Case | None = None) -> None:
        self.report, self.case = report, case
        # The explanation first, then the list of stages.
        stages, _, rest = report.text.partition("\nFAILED: ")
        verdict, _, explanation = rest.partition("\n\n")
        super().__init__(f"{explanation or verdict}\n{stages}" if rest else report.text)


@dataclass(frozen=True, repr=False)
class Case:
    """One program with its inputs and its known answer."""

    id: str
    program: str
    """What is computed: ``gru_cell``, ``gru``, ``loss``, …"""
    family: str
    note: str
    """What the case is for."""
    flags: tuple[str, ...]
    result: str
    """``valid``: the values must be right. ``acceptable``: they may be. ``invalid``: the input must be refused, by
    the single output ``out.rejected`` = 1."""
    config: Mapping[str, Any]
    """The settings of the program, such as ``margin``."""
    outputs: Mapping[str, tuple[int, ...]]
    """The names and shapes of the tensors that may be given, in the order of the data flow."""
    suite: str
    profile: str = "f32"
    """The precision that `check` assumes."""
    complete: bool = False
    """Whether `check` counts tensors that are not given as wrong."""
    checked: dict[str, Outputs] | None = field(default=None, compare=False)
    """Where `check` keeps the outputs of each case, so that the plugin of pytest can compare all of them together."""

    def __repr__(self) -> str:
        return f"<golden case {self.id} of {self.program}>"

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """``in.*`` and ``param.*`` as new arrays: real numbers in ``float32``, ids and lengths in ``int64``.

        In ``in.x`` [B, T, E] and ``in.d_words`` what comes after a row's end is NaN.
        """
        return _read(_open(self.suite).folder, self.id)

    def check(self, outputs: Outputs, profile: str | None = None, complete: bool | None = None) -> Report:
        """Compares these tensors with the case.

        Parameters
        ----------
        outputs
            Any of `Case.outputs`, by name.
        profile
            One of `PROFILES`: the precision in which they were computed. ``case.profile`` if not given.
        complete
            Whether tensors that are not given are wrong. ``case.complete`` if not given.

        Raises
        ------
        Mismatch
            An ``AssertionError``, if something is wrong.
        ValueError
            If the case has none of these names.
        """
        __tracebackhide__ = True
        known = [*self.outputs, "out.rejected", "out.unsupported"]
        if isinstance(outputs, Mapping) and not any(name in known for name in outputs):
            given = ", ".join(map(str, outputs)) or "nothing"
            raise ValueError(f"{self.id}: found {given}; expected some of {', '.join(known[:-2]) or known[0]}")
        profile, complete = profile or self.profile, self.complete if complete is None else complete
        report = _check({self.id: outputs}, self.suite, profile, [self.id], complete)
        if self.checked is not None:
            self.checked[self.id] = dict(outputs)
        if not report.passed:
            raise Mismatch(report)
        return report


class Cases(Sequence[Case]):
    """Cases in the order of the suite, by place or by id."""

    def __init__(self, all: Iterable[Case]) -> None:
        self._all = tuple(all)
        self._by_id = {case.id: case for case in self._all}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Case]:
        return iter(self._all)

    def __contains__(self, case: object) -> bool:
        return (case in self._by_id) if isinstance(case, str) else case in self._all

    def __getitem__(self, key: Any) -> Any:
        """A case by its place or its id; several by a slice."""
        if isinstance(key, str):
            if key not in self._by_id:
                raise KeyError(f"there is no case {key} among these {len(self)}")
            return self._by_id[key]
        return Cases(self._all[key]) if isinstance(key, slice) else self._all[key]

    def __repr__(self) -> str:
        return f"<{len(self)} golden cases: {', '.join(list(self._by_id)[:4])}{', …' if len(self) > 4 else ''}>"


Choice = str | Iterable[str] | None


def cases(
    suite: str | os.PathLike[str] = "core",
    *,
    program: Choice = None,
    id: Choice = None,
    family: Choice = None,
    flag: Choice = None,
    result: Choice = None,
) -> Cases:
    """The cases of a suite, or those of them that have one of the given values of each kind.

    Parameters
    ----------
    suite
        ``"core"``; ``"pictures"`` (the layers of image encoders); or a folder that ``vsepp golden make`` wrote.
    program, id, family, flag, result
        A value, or several: ``program="loss"``, ``program=["gru_cell", "gru"]``, ``flag="tie"``.

    Raises
    ------
    ValueError
        If no case has one of the values.
    """
    found = list(_open(os.fspath(suite)).cases)
    for kind, choice in ("program", program), ("id", id), ("family", family), ("flag", flag), ("result", result):
        if choice is None:
            continue
        chosen = {choice} if isinstance(choice, str) else set(choice)

        def values(case: Case, kind: str = kind) -> Sequence[str]:
            return case.flags if kind == "flag" else [getattr(case, kind)]

        known = sorted({value for case in _open(os.fspath(suite)).cases for value in values(case)})
        for unknown in sorted(chosen.difference(known)):
            few = ", ".join(known) if len(known) < 40 else f"{', '.join(known[:4])}, … ({len(known)} in all)"
            raise ValueError(f"suite {suite} has no case of {kind} {unknown!r}; there are {few}")
        found = [case for case in found if chosen.intersection(values(case))]
    return Cases(found)


def check(
    outputs: Mapping[str, Outputs],
    profile: str = "f32",
    complete: bool = False,
    *,
    suite: str | os.PathLike[str] = "core",
) -> Report:
    """Compares the tensors of many cases with a suite; cases and tensors may be left out.

    Parameters
    ----------
    outputs
        ``{case id: {tensor name: array}}``, the arrays NumPy's, PyTorch's or JAX's.
    profile
        One of `PROFILES`: the precision in which they were computed.
    complete
        Whether cases and tensors that are not given are wrong.

    Raises
    ------
    ValueError
        If there is no such case or profile.
    """
    return _check(outputs, os.fspath(suite), profile, [], complete)


def fuzz(
    backend: Callable[[Case], Outputs],
    seeds: int = 100,
    *,
    program: Choice = None,
    profile: str = "f32",
    first: int = 0,
    out: str | os.PathLike[str] | None = None,
) -> int:
    """Random cases; the first that is wrong is made as small as it can be.

    >>> def linear(case):
    ...     x, w = case.inputs["in.x"], case.inputs["param.img_enc.fc.weight"]
    ...     return {"out.y": x @ w.T + case.inputs["param.img_enc.fc.bias"]}
    >>> golden.fuzz(linear, seeds=20, program="linear")
    20

    Parameters
    ----------
    backend
        Takes a `Case`, such as one of ``linear`` with ``inputs["in.x"]`` [N, I], and returns any of its outputs by
        name, such as ``out.y`` [N, O], as `Case.check` takes them. An exception is a wrong result.
    seeds, first
        How many seeds, and the first. Each gives a case of every program.
    program
        ``gru_cell``, ``gru``, ``embedding``, ``linear``, ``l2norm``, ``scores``, ``loss``, ``optimiser`` or ``model``,
        or several of them; all if not given.
    profile
        One of `PROFILES`: the precision in which ``backend`` computes.
    out
        The folder to be made for the smallest case, a suite for `cases`; a temporary one if not given.

    Returns
    -------
    int
        How many cases were right.

    Raises
    ------
    Mismatch
        An ``AssertionError``, if a case is wrong. ``case`` is the smallest case, ``report`` its check.
    ValueError
        If there is no such program or profile, if ``seeds`` is 0, or if ``out`` exists.
    """
    __tracebackhide__ = True
    if profile not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, found {profile!r}")
    raised: list[Exception] = []

    def compute(folder: str) -> tuple[list[Any], list[tuple[str, str]]]:
        tensors, failed = [], []
        raised.clear()
        _open.cache_clear()  # the folders of two starts may have the same name
        for case in _open(folder).cases:
            try:
                tensors += _given(case.id, backend(replace(case, profile=profile)))
            except Exception as e:
                raised.append(e)
                failed.append((case.id, f"{type(e).__name__}: {e}"))
        return tensors, failed

    programs = [program] if isinstance(program, str) else list(program or ())
    place = Path(tempfile.mkdtemp(prefix="vsepp-fuzz-")) / "smallest" if out is None else Path(out)
    try:
        passed, text, document = _core.fuzz(compute, seeds, first, programs, profile, place)
    finally:
        _open.cache_clear()
        if out is None and not place.exists():
            place.parent.rmdir()
    found = json.loads(document)
    if passed:
        return int(found["cases"])
    report = _report(False, text, found["failed"]["report"])
    case = replace(_open(os.fspath(place)).cases[0], profile=profile)
    raise Mismatch(report, case) from (raised[-1] if raised else None)


def _given(case: str, outputs: Outputs) -> list[tuple[str, str, str, NDArray[np.float64]]]:
    """The tensors of a case, as the extension takes them."""
    if not isinstance(outputs, Mapping):
        raise TypeError(f"{case}: expected a dict of tensor names and arrays, found {type(outputs).__name__}")
    return [(case, name, *numbers(f"{case}: {name}", x)) for name, x in outputs.items()]


def _report(passed: bool, text: str, report: Mapping[str, Any]) -> Report:
    failures = [failure for case in report["reports"] for failure in _failures(case)]
    return Report(passed, text, tuple(failures), report)


def _check(all: Mapping[str, Outputs], suite: str, profile: str, only: list[str], complete: bool) -> Report:
    if profile not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, found {profile!r}")
    tensors = [tensor for case, outputs in all.items() for tensor in _given(case, outputs)]
    passed, text, document = _open(suite).core.check(tensors, profile, only, complete)
    return _report(passed, text, json.loads(document))


def _failures(report: Mapping[str, Any]) -> Iterator[Failure]:
    """The failures in the report of a case."""
    if report["status"] != "failed":
        return
    if report.get("problem"):
        yield Failure(report["id"], None, None, report["problem"], (), None, None, None)
    for tensor in report["tensors"]:
        if tensor["status"] == "failed":
            found = tensor.get("found")
            yield Failure(
                case=report["id"],
                tensor=tensor["name"],
                stage=tensor["stage"],
                problem=tensor.get("problem", ""),
                index=tuple(tensor.get("index", ())),
                expected=tensor.get("expected"),
                found=None if found is None else float(found),
                tolerances=tensor.get("units"),
            )


@dataclass(frozen=True)
class _Suite:
    folder: Path
    core: _core.Suite
    cases: tuple[Case, ...]


@lru_cache(maxsize=8)
def _open(suite: str) -> _Suite:
    named = suite in ("core", "pictures")
    folder = Path(__file__).parent / "suites" / suite if named else Path(suite)
    core = _core.Suite(folder)
    entries = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["cases"]
    return _Suite(folder, core, tuple(_case(entry, suite) for entry in entries))


def _is_input(name: str) -> bool:
    return name.startswith(("in.", "param.", "layout."))


def _case(entry: Mapping[str, Any], suite: str) -> Case:
    """A case from its entry in the manifest."""
    same = {key: entry[key] for key in ("id", "program", "family", "note", "result", "config")}
    outputs = {t["name"]: tuple(t["shape"]) for t in entry["tensors"] if not _is_input(t["name"])}
    return Case(**same, flags=tuple(entry["flags"]), outputs=outputs, suite=suite)


def _read(folder: Path, id: str) -> dict[str, NDArray[Any]]:
    """The inputs in a case's file: npz, or safetensors (a length, a header in JSON, the numbers)."""
    path = folder / f"{id}.safetensors"
    if not path.exists():
        with np.load(path.with_suffix(".npz")) as arrays:
            return {name: arrays[name] for name in arrays.files if _is_input(name)}
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    types = {element: np.dtype(letters).newbyteorder("<") for letters, element in ELEMENTS.items()}
    inputs = {}
    for name, tensor in json.loads(content[8:start]).items():
        if _is_input(name):
            first, last = (start + offset for offset in tensor["data_offsets"])
            values = np.frombuffer(content[first:last], types[tensor["dtype"]])
            inputs[name] = values.astype(values.dtype.newbyteorder("=")).reshape(tensor["shape"])
    return inputs

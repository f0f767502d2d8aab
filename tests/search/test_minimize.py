"""`rcdp_hpc.minimize`: a function of the user over a box, in one process."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from rcdp_hpc import minimize
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.search.box import box_of

LINE = {"x": (-5.0, 5.0)}


def square(values):
    return (values["x"] - 1) ** 2


def search(function=square, space=None, *, population=8, generations=10, **options):
    return minimize(function, space or LINE, population=population, generations=generations, seed=2, **options)


@pytest.mark.parametrize("optimizer", ["mfo", "woa", "avoa", "pso", "ga", "random", "sobol"])
def test_every_optimizer_finds_the_minimum(optimizer):
    result = search(optimizer=optimizer, population=16, generations=16)
    assert abs(result.values["x"] - 1) < 0.2
    assert result.value == square(result.values) == -result.fitness
    assert result.value == min(trial.value for trial in result.history)
    assert len(result.history) == 256


def test_all_kinds_of_dimension():
    space = {
        "plain": (np.float32(-1), 2),
        "log": (1e-6, 1e3, "log"),
        "whole": {"low": 0.5, "high": 9, "integer": True},
        "both": [1, 1000, "log", "integer"],
        "choice": {"choices": ["a", 3, 2.5, True]},
    }
    seen = []

    def function(values):
        seen.append(dict(values))
        values.clear()  # a copy
        return len(seen)

    result = search(function, space, population=40)
    assert [list(values) for values in seen] == [list(space)] * len(seen)
    assert all(-1 <= one["plain"] <= 2 and 1e-6 <= one["log"] <= 1e3 for one in seen)
    assert {one["whole"] for one in seen} <= set(range(1, 10))
    assert all(type(one["whole"]) is type(one["both"]) is int for one in seen)
    assert {one["choice"] for one in seen} == {"a", 3, 2.5, True}
    assert sum(one["log"] < 0.03 for one in seen[:40]) > 10  # about half on a logarithmic scale
    assert result.values == seen[0]


def test_the_first_candidate_is_the_start():
    space = {"x": {"low": -5, "high": 5, "start": 1.25}, "kind": {"choices": ["a", "b", "c"], "start": "c"}}
    assert search(space=space).history[0].values == {"x": 1.25, "kind": "c"}


def test_equal_values_are_evaluated_once():
    seen = []
    result = search(lambda values: seen.append(values["x"]) or float(values["x"]), {"x": (1, 4, "integer")})
    assert len(seen) == len(set(seen)) == result.evaluations <= 4
    assert result.values == {"x": 1}
    assert sum(trial.reused for trial in result.history) == 80 - len(seen)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (math.nan, "the function returned nan"),
        (-math.inf, "the function returned -inf"),
        (None, "the function returned None"),
        ("3", "the function returned '3'"),
        (1j, "returned a complex"),
        (np.array([1.0, 2.0]), "returned a ndarray"),
        pytest.param(10**400, "returned a int", id="too large for a float"),
        (ValueError("bad\nluck"), "ValueError: bad luck"),
        (SystemExit(4), "SystemExit: 4"),
    ],
)
def test_a_failed_call_is_counted_and_reported(answer, reason, caplog):
    def function(values):
        if values["x"] < 0:
            if isinstance(answer, BaseException):
                raise answer
            return answer
        return square(values)

    result = search(function)
    failed = [trial for trial in result.history if trial.values["x"] < 0]
    assert failed
    assert all(trial.value is None and reason in trial.reason for trial in failed)
    assert result.failed == sum(not trial.reused for trial in failed)
    assert result.values["x"] > 0
    assert f"{result.failed} of {result.evaluations} calls of the function failed" in caplog.text
    with pytest.raises(StageFailedError, match="failed for every candidate, the first time because"):
        search(function, {"x": (-2.0, -1.0)})


@pytest.mark.parametrize("number", [2, np.float32(2), np.array(2.0), np.array([2.0]), True])
def test_a_single_number_of_any_type_is_a_value(number):
    assert search(lambda values: number, generations=1).value == np.array(number).item()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "space is empty"),
        ([("x", 1, 2)], "space is a list"),
        ({3: (0, 1)}, "the name 3"),
        ({"x": (1, 1)}, r"space\['x'\]: low = 1 must be below high = 1"),
        ({"x": (2, -1)}, "must be below"),
        ({"x": (0, math.nan)}, "high = nan is not a finite number"),
        ({"x": (-math.inf, 0)}, "low = -inf"),
        ({"x": (-1e308, 1e308)}, "too far apart"),
        ({"x": (0, 1, "log")}, "above 0"),
        ({"x": (0.2, 1.7, "integer")}, "fewer than two integers"),
        ({"x": (0, 2**60, "integer")}, "not exact"),
        ({"x": (0, 1, "lin")}, "neither 'log' nor 'integer'"),
        ({"x": ("a", "b")}, "low = 'a' is not a finite number"),
        ({"x": (True, False)}, "not a finite number"),
        ({"x": 3}, "3 is not accepted"),
        ({"x": {"low": 0}}, "no low and high"),
        ({"x": {"low": 0, "high": 1, "lgo": True}}, "unknown key 'lgo'"),
        ({"x": {"low": 0, "high": 1, "log": "yes"}}, "log = 'yes'"),
        ({"x": {"low": 0, "high": 1, "start": 2}}, "start = 2 must lie"),
        ({"x": {"choices": [1]}}, "two or more"),
        ({"x": {"choices": [1, 1.0]}}, "different"),
        ({"x": {"choices": "ab"}}, "not a list"),
        ({"x": {"choices": [[1], [2]]}}, "neither text nor"),
        ({"x": {"choices": [1, 2], "low": 0}}, "choices exclude low"),
        ({"x": {"choices": [1, 2], "start": 3}}, "not among"),
    ],
)
def test_a_bad_space_is_refused(space, message):
    with pytest.raises(InputError, match=message):
        box_of(space)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 1}, "population"),
        ({"generations": 0}, "generations"),
        ({"generations": 2.5}, "generations"),
        ({"optimizer": "mof"}, "optimizer"),
        ({"optimizer": "no_module:Nothing"}, "no_module"),
        ({"comm": "world"}, "comm is a str"),
        ({"function": 3}, "function is a int"),
    ],
)
def test_bad_arguments_are_refused_before_the_first_call(options, message):
    def function(values):
        pytest.fail("called")

    with pytest.raises(InputError, match=message):
        search(**{"function": function, **options})


def test_a_freed_communicator_is_refused():
    class Freed(SimpleNamespace):
        def __bool__(self):
            return False

    with pytest.raises(InputError, match="freed"):
        search(comm=Freed(Dup=None, Get_rank=None, Ibcast=None))


def test_a_folder_keeps_the_search(tmp_path):
    calls = []

    def function(values):
        calls.append(values)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return square(values)

    with pytest.raises(KeyboardInterrupt):
        search(function, out=tmp_path / "new" / "folder")
    first = search(function, out=tmp_path / "new" / "folder")
    assert len(calls) < 80 + 8
    assert first == search()
    count = len(calls)
    assert search(function, out=tmp_path / "new" / "folder") == first
    assert len(calls) == count
    with pytest.raises(InputError, match="fingerprint"):
        search(function, {"x": (-5.0, 6.0)}, out=tmp_path / "new" / "folder")


def test_the_result_depends_on_the_seed_only():
    results = [minimize(square, LINE, population=4, generations=3, seed=seed) for seed in (0, 0, 1)]
    assert results[0] == results[1]
    assert results[0] != results[2]

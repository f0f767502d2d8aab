"""Fitness computed by a function of the user: its contract, and the errors if it is broken."""

from __future__ import annotations

import sys
import textwrap

import numpy as np
import pytest
from search.fake_fitness import cheap_config
from search.group_search import small_data

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.user_function import FunctionFitness

MODULE = """
    import sys
    import time
    import numpy as np

    def good(values, data):
        return -abs(values["leak"] - 0.5) + 0 * data.x_train.sum()

    def three(values, data):
        return 1.5, 0.25, np.float32(0.5)

    def text(values, data):
        return "0.9"

    def truth(values, data):
        return True

    def two(values, data):
        return 1.0, 2.0

    def changes_values(values, data):
        values["leak"] = 0.0
        return 1.0

    def changes_data(values, data):
        data.x_train[:] = 0
        return 1.0

    def hangs(values, data):
        while True:
            time.sleep(1)

    def raises(values, data):
        raise ZeroDivisionError("the user's own")

    def leaves(values, data):
        sys.exit("no licence")

    def endless(values, data):
        return float("inf")

    number = 3
"""
VALUES = {"density": 0.1, "input_scaling": 1.0, "leak": 0.25}


@pytest.fixture
def fitness(tmp_path, monkeypatch):
    """Return a maker of fitnesses from the functions of `MODULE`."""
    (tmp_path / "own_fitness.py").write_text(textwrap.dedent(MODULE))
    (tmp_path / "leaves_on_import.py").write_text("raise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_fitness", raising=False)  # that of another test
    data = small_data()
    data.x_train.flags.writeable = False

    def make(name: str, **settings: object) -> FunctionFitness:
        config = cheap_config(evaluation="function", function=f"own_fitness:{name}", **settings)
        return FunctionFitness(config, data)

    return make


def test_a_number_is_the_fitness(fitness):
    evaluation = fitness("good")(VALUES)
    assert (evaluation.fitness, evaluation.reason) == (-0.25, None)
    assert np.isnan(evaluation.error)
    three = fitness("three")(VALUES)
    assert (three.fitness, three.error, three.accuracy) == (1.5, 0.25, 0.5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", r"own_fitness:text' returned '0.9' \(str\): expected a number"),
        ("truth", r"returned True \(bool\)"),
        ("two", r"returned \(1.0, 2.0\) \(tuple\)"),
        ("changes_values", "changed its argument from"),
    ],
)
def test_a_broken_contract_ends_the_search(fitness, name, message):
    with pytest.raises(InputError, match=message):
        fitness(name)(VALUES)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("changes_data", "read-only"),
        ("hangs", "took longer than search.candidate_seconds = 0.3"),
        ("raises", "ZeroDivisionError: the user's own"),
        ("leaves", "SystemExit: no licence"),
        ("endless", "returned inf"),
    ],
)
def test_a_failing_call_is_a_failed_candidate(fitness, name, reason):
    evaluation = fitness(name, candidate_seconds=0.3)(VALUES)
    assert evaluation.fitness == -np.inf
    assert reason in evaluation.reason


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_fitness", "expected module:function"),
        ("own_fitness:nothing", "has no function nothing"),
        ("own_fitness:number", "has no function number"),
        ("no_such_module_here:f", "cannot be imported"),
        ("leaves_on_import:f", r"cannot be imported \(SystemExit: 3\)"),
    ],
)
def test_a_wrong_name_is_refused(fitness, name, message):
    with pytest.raises(InputError, match=message):
        FunctionFitness(cheap_config(evaluation="function", function=name), small_data())


def test_a_search_over_a_function_does_not_continue_after_an_edit(fitness, tmp_path):
    config = cheap_config(evaluation="function", function="own_fitness:good")
    best = run_search(config, SingleProcess(), fitness("good"), tmp_path / "search")
    assert abs(best.values["leak"] - 0.5) < 0.1
    assert len(read_sealed_lines(tmp_path / "search" / "history.jsonl")) == 42
    module = tmp_path / "own_fitness.py"
    module.write_text(module.read_text().replace("0.5", "0.6"))
    with pytest.raises(InputError, match=r"made with other settings: code\.own_fitness"):
        run_search(config, SingleProcess(), fitness("good"), tmp_path / "search")

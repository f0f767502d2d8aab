"""The plan of a comparison: order, names and numbers of its cells; what its section refuses."""

from __future__ import annotations

import pytest

from rcdp_hpc.comparison.plan import budget_of, make_plan
from rcdp_hpc.comparison.results import LeftOut
from rcdp_hpc.config import load_config
from rcdp_hpc.config.choices import METHODS
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.code_consent import code_named_by


def names(*settings: str) -> list[str]:
    return [cell.name for cell in make_plan(load_config("digits", settings)).cells]


def test_cells_are_ordered_by_budget_repetition_arm_and_method():
    found = names("compare.methods=ridge,mfo", "compare.seeds=3,1", "compare.arms=rows,extractor", "compare.seconds=9")
    first = ["ridge-seed-3", "mfo-seed-3", "ridge-seed-3-extractor", "mfo-seed-3-extractor"]
    second = [name.replace("seed-3", "seed-1") for name in first]
    assert found == [*first, *second, *(f"{name}-seconds" for name in (*first, *second))]


def test_folds_and_default_methods():
    assert names("compare.folds=2", "compare.methods=mine:Method") == ["mine.Method-fold-1", "mine.Method-fold-2"]
    assert names("run.seed=7") == [f"{method}-seed-7" for method in METHODS.names]


def test_methods_that_are_left_out_keep_their_numbers():
    config = load_config("digits", ["compare.methods=mfo,trees,ridge"])
    plan = make_plan(config, (LeftOut("trees", "rows", "not a table"),))
    assert [(cell.number, cell.method) for cell in plan.run_cells] == [(1, "mfo"), (3, "ridge")]
    assert plan.cell(3).method == "ridge"
    for number in (0, 4):
        with pytest.raises(InputError, match="between 1 and the number of cells"):
            plan.cell(number)


def test_only_cells_of_the_second_budget_are_timed():
    config = load_config("digits", ["compare.methods=mfo", "compare.seconds=5", "search.population=6"])
    first, second = make_plan(config).cells
    assert (budget_of(first, config).population, budget_of(first, config).seconds) == (6, 0.0)
    assert budget_of(second, config).seconds == 5.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("compare.seeds=1,2,1", "1 is given twice"),
        ("compare.methods=ridge,ridge", "'ridge' is given twice"),
        ("compare.methods=rigde", "did you mean ridge"),
        ("compare.folds=1", "leaves nothing to train on"),
        ("compare.arms=row", "did you mean rows"),
        ("compare.seconds=-1", "compare.seconds"),
    ],
)
def test_wrong_values_are_refused(setting, message):
    with pytest.raises(InputError, match=message):
        load_config("digits", [setting])


def test_methods_of_the_users_own_are_code_that_needs_consent():
    config = load_config("digits", ["compare.methods=ridge,mine:Method"])
    assert code_named_by(config) == {"compare.methods[1]": "mine:Method"}

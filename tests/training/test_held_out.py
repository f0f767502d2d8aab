"""Criteria of rows that the ranks share, and the checks of criteria before a training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from search.ranks import Ranks

from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria import criterion
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.checks import check_fitness
from rcdp_hpc.training.criterion_checks import check_criteria, refuse_undefined
from rcdp_hpc.training.held_out import HeldOutAnswers
from rcdp_hpc.training.held_out_scores import gathered_rows

NAMES = ("a", "b", "c")


@pytest.mark.parametrize("name", ["g_mean", "recall:b", "macro_pr_auc", "log_loss"])
def test_the_value_is_that_of_all_rows_on_any_number_of_ranks(name):
    rng, by = np.random.default_rng(1), criterion(name, NAMES)
    labels, scores = torch.tensor(rng.choice(3, 50, p=[0.7, 0.2, 0.1])), torch.tensor(rng.dirichlet([1, 1, 1], 50))
    expected = by.fitness(labels.numpy(), scores.argmax(1).numpy(), scores.numpy())

    def value(comm):
        answers = HeldOutAnswers(by)
        for start in range(0, 50, 8):  # one rank of seven has no row
            if start // 8 % (comm.size - (comm.size == 7)) == comm.rank:
                answers.add(labels[start : start + 8], scores[start : start + 8])
        return answers.fitness(comm)

    assert value(SingleProcess()) == expected
    for size in (2, 7):
        assert Ranks(size).run(value) == pytest.approx([expected] * size, abs=1e-15)


def test_a_class_that_does_not_exist_is_refused_with_the_key():
    config = parse_config({"training": {"criterion": "recall:cat"}, "search": {"fitness": "recall:dog"}}, "a test")
    with pytest.raises(InputError, match=r"training.criterion = recall:cat: there is no class 'cat'"):
        check_criteria(config, NAMES)
    with pytest.raises(InputError, match=r"search.fitness = recall:dog: there is no class 'dog'"):
        check_fitness(config, NAMES)


def test_a_class_without_rows_is_named(caplog):
    with pytest.raises(
        InputError, match=r"training.criterion = 'recall:b' is undefined on the validation rows: .*\bb\b"
    ):
        refuse_undefined(criterion("recall:b", NAMES), "training.criterion", np.array([3, 0, 2]), "the validation rows")
    with pytest.raises(InputError, match="all samples are of class c"):
        refuse_undefined(criterion("mcc", NAMES), "search.fitness", np.array([0, 0, 2]), "the rows")
    refuse_undefined(criterion("macro_f1", NAMES), "search.fitness", np.array([3, 0, 2]), "the rows")
    assert caplog.messages == [
        "search.fitness: there are no rows of b among the rows; macro_f1 says nothing about them"
    ]


def test_thinned_rows_have_all_classes_and_are_the_same_on_any_number_of_ranks():
    rows = np.stack([np.arange(1200) % 3, np.arange(1200)], axis=1).astype(np.float64)  # every third is of one class

    def thinned(comm):
        start, stop = (1200 * rank // comm.size for rank in (comm.rank, comm.rank + 1))
        return gathered_rows(comm, rows[start:stop], 400)

    alone = thinned(SingleProcess())
    assert 390 <= len(alone) <= 400
    assert np.bincount(alone[:, 0].astype(int)).min() > 100
    np.testing.assert_array_equal(Ranks(3).run(thinned)[0], alone)
    assert len(gathered_rows(SingleProcess(), rows)) == 1200

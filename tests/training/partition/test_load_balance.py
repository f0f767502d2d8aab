"""Unequal shares of the work: which speeds the ranks agree on. Trainings with them: tests/parallel."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from settings import config_of

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.partition.load_balance import speeds_of_ranks


class Ranks(SingleProcess):
    """Several ranks that measure the given rates."""

    def __init__(self, *rates):
        self.rates, self.size = list(rates), len(rates)

    def allgather(self, value):
        return self.rates


def speeds_measured(*rates, saved=None):
    return speeds_of_ranks(config_of(partition__load_balance="measured"), Ranks(*rates), lambda: rates[0], saved)


def test_measured_speeds_are_relative_and_small_differences_are_ignored():
    assert speeds_measured(1000.0, 2004.0, 1500.0) == (1.0, 2.0, 1.5)
    assert speeds_measured(1000.0, 1150.0) == ()


def test_a_training_resumed_on_as_many_ranks_uses_its_earlier_speeds():
    saved = SimpleNamespace(ranks=2, load_balance={"kind": "measured", "rank_speeds": [1.0, 3.0]})
    assert speeds_measured(1.0, 2.0, saved=saved) == (1.0, 3.0)
    assert speeds_measured(1.0, 2.0, 4.0, saved=saved) == (1.0, 2.0, 4.0)
    equal = SimpleNamespace(ranks=2, load_balance={"kind": "measured", "rank_speeds": []})
    assert speeds_measured(1.0, 2.0, saved=equal) == ()


def test_each_rank_needs_a_speed():
    with pytest.raises(InputError, match=r"partition.rank_speeds has 2 numbers for 3 ranks"):
        speeds_of_ranks(
            config_of(partition__load_balance="rank_speeds", partition__rank_speeds=[1, 2]), Ranks(1, 1, 1), float, None
        )

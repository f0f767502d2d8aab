"""Checks of many blocks that are read together, as on a GPU."""

import pytest
import torch

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir.sequence_checks import CollectedChecks, check_input, check_states

CPU = torch.device("cpu")


def collect(checks, blocks):
    for number, block in enumerate(blocks):
        with checks.collecting(number):
            check_input(block)
            check_states(block.flatten(1))


def test_blocks_that_may_not_be_finite_are_named_once():
    blocks = [torch.zeros(4, 3, 2) for _ in range(4)]
    blocks[1][2, 0, 1] = torch.nan
    blocks[3][0, 0, 0] = torch.inf
    checks = CollectedChecks(CPU, at_once=False)
    collect(checks, blocks)
    assert checks.suspects() == [1, 3]
    assert checks.suspects() == []
    with pytest.raises(CandidateError, match=r"row 2 .* holds nan \(step 0, feature 1\)"):
        check_input(blocks[1])


def test_a_sum_that_overflows_makes_a_suspect_whose_values_are_finite():
    block = torch.full((2, 2, 2), 3e38)
    checks = CollectedChecks(CPU, at_once=False)
    collect(checks, [block])
    assert checks.suspects() == [0]
    check_input(block)


def test_a_cpu_checks_each_block_at_once():
    checks = CollectedChecks(CPU)
    with pytest.raises(CandidateError, match="row 0"):
        collect(checks, [torch.full((1, 1, 1), torch.nan)])
    assert checks.suspects() == []


def test_an_error_ends_the_collection():
    with pytest.raises(ZeroDivisionError), CollectedChecks(CPU, at_once=False).collecting(0):
        raise ZeroDivisionError
    with pytest.raises(CandidateError):
        check_states(torch.full((1, 1), torch.nan))

"""Ensembles of solved readouts: the rows of the members, their solution over ranks, and their disagreement."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from search.ranks import Ranks
from training.solve.test_ridge_fit import CLASSES, JUDGED, ROWS, WIDTH, Rows, config_of

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.disagreement import mutual_information
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.readouts.solved_ensemble import SolvedEnsemble
from rcdp_hpc.reservoir.left_out import solve_rows
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.calibration import plain_rule
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve.member_rows import MemberRows, rows_by_class, under_sampled
from rcdp_hpc.training.solve.members import Members, solve_members
from rcdp_hpc.training.solve.ridge_fit import ORIGINAL, SYNTHETIC
from rcdp_hpc.training.solve.solver import Solution

SHAPE = FeatureShape(1, 1, WIDTH)
SETTINGS = {"readout__members": 3, "readout__member_rows": "under_sampled", "data__balance": "none"}


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def rows_of_test() -> Rows:
    rows = Rows()
    rows.origins[rows.origins == SYNTHETIC] = ORIGINAL
    return rows


def members_of(rows: Rows, comm: Communicator, **settings: object) -> Members:
    config = config_of(**{**SETTINGS, **settings})
    source = rows.source(comm)
    plan = BatchPlan(ROWS, 32, 12, comm.rank, comm.size, 1)
    other = BatchPlan(JUDGED, 32, 12, comm.rank, comm.size, 1)
    starts = tuple([one.partition_bounds(part)[0] for part in one.local_partitions] for one in (plan, other))
    labels = rows.labels[:ROWS], rows.labels[ROWS:]
    drawn = MemberRows(source, labels, starts, config.readout.member_ratio, seed=4)
    return Members(config, source, SHAPE, 4, drawn if config.readout.member_rows == "under_sampled" else None)


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, [5, 5, 5]), (1 / 3, [15, 7, 5]), (0.01, [40, 7, 5])])
def test_a_member_has_the_stated_ratio_of_the_classes(ratio, expected):
    assert rows_by_class(np.array([40, 7, 5]), ratio).tolist() == expected


def test_a_class_without_rows_cannot_be_drawn():
    with pytest.raises(InputError, match="class number 1 has none"):
        rows_by_class(np.array([3, 0]), 1.0)


def test_rows_are_drawn_without_replacement_and_differ_between_members():
    labels = np.repeat([0, 1], [50, 8])
    first, second = (under_sampled(labels, np.array([8, 8]), (1, member)) for member in (0, 1))
    assert np.bincount(labels[first]).tolist() == np.bincount(labels[second]).tolist() == [8, 8]
    assert np.flatnonzero(first).tolist() != np.flatnonzero(second).tolist()
    assert np.array_equal(first, under_sampled(labels, np.array([8, 8]), (1, 0)))


@pytest.mark.parametrize(
    "settings",
    [
        {"readout__ridge_selection": "left_out"},
        {"readout__ridge_selection": "validation", "readout__member_ratio": 0.5},
        {"readout__kind": "elm", "readout__hidden": 6, "readout__ridge_selection": "validation"},
        {"readout__kind": "elm", "readout__hidden": 6, "readout__member_rows": "all"},
    ],
)
def test_members_are_the_same_bits_on_any_number_of_ranks(settings):
    rows = rows_of_test()

    def solved(comm: Communicator) -> tuple[object, ...]:
        solution = solve_members(comm, members_of(rows, comm, **settings))
        weights = {name: value.numpy().tobytes() for name, value in solution.weights.items()}
        return weights, solution.accuracy, solution.penalties, solution.scores(rows.states).numpy().tobytes()

    expected = solved(SingleProcess())
    # Members of other rows or seeds are not the same.
    assert len({value for name, value in expected[0].items() if name.endswith(("linear.weight", "scores.weight"))}) == 3
    for size in (2, 4):
        assert Ranks(size).run(solved) == [expected] * size


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_the_scores_are_the_mean_of_readouts_of_the_drawn_rows(selection):
    rows, comm = rows_of_test(), SingleProcess()
    members = members_of(rows, comm, readout__ridge_selection=selection, readout__ridge_precision="double")
    solution = solve_members(comm, members)
    expected = []
    for number, penalty in enumerate(solution.penalties):
        chosen = np.concatenate(members.drawn.chosen(number))
        counts = np.bincount(rows.labels[:ROWS][chosen[:ROWS]])
        assert counts.tolist() == [np.bincount(rows.labels[:ROWS]).min()] * CLASSES
        readout = solve_rows(rows.states[chosen], rows.labels[chosen], CLASSES, penalty)
        expected.append(readout.predict(rows.states.double()))
    network = build_readout(members.config, SHAPE, CLASSES, seed=0)
    assert isinstance(network, SolvedEnsemble)
    network.load_state_dict(solution.weights)
    mean = np.mean(expected, axis=0)
    np.testing.assert_allclose(solution.scores(rows.states.double()), mean, atol=2e-6)
    shares = np.maximum(mean, 1e-6)
    with torch.no_grad():
        np.testing.assert_allclose(network.linear_scores(rows.states), mean, atol=1e-5)
        np.testing.assert_allclose(network.probabilities(rows.states), shares / shares.sum(1, keepdims=True), atol=1e-4)
        found = network.disagreement(rows.states)
        each = torch.stack([member.probabilities(rows.states) for member in network.members])
    assert torch.equal(found, mutual_information(each))
    assert 0 < float(found.min()) < float(found.max()) < np.log(CLASSES)


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_held_out_scores_are_those_of_all_validation_rows_by_members_without_them(selection):
    rows = rows_of_test()

    def solved(comm: Communicator) -> tuple[Solution, Members]:
        members = members_of(rows, comm, readout__ridge_selection=selection, readout__ridge_precision="double")
        drawn = replace(members.drawn, source=replace(members.source, natural=np.bincount(rows.labels)))
        return solve_members(comm, replace(members, source=drawn.source, drawn=drawn)), members

    (solution, members), (other, _) = solved(SingleProcess()), Ranks(2).run(solved)[0]
    assert solution.held_out.labels.tolist() == rows.labels[ROWS:].tolist()
    expected = []
    for number, penalty in enumerate(solution.penalties):
        chosen = np.flatnonzero(members.drawn.chosen(number)[0])
        readout = solve_rows(rows.states[chosen], rows.labels[chosen], CLASSES, penalty)
        expected.append(readout.predict(rows.states[ROWS:].double()))
    np.testing.assert_allclose(solution.held_out.scores, np.mean(expected, axis=0), atol=2e-6)
    assert np.array_equal(solution.held_out.scores, other.held_out.scores)


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, [1 / 2, 1 / 2]), (0.5, [2 / 3, 1 / 3]), (0.1, [4 / 5, 1 / 5])])
def test_probabilities_stand_for_the_shares_of_the_drawn_rows(ratio, expected):
    shards = SimpleNamespace(classes=["a", "b"], class_counts=lambda split: np.array([40, 10]))
    rule = plain_rule(config_of(**SETTINGS, readout__member_ratio=ratio), shards)
    np.testing.assert_allclose(rule.shares, expected)


def test_disagreement_by_hand():
    # Two certain members of other classes: log 2. Equal members: 0. Then (1, 0) and (1/2, 1/2).
    first = torch.tensor([[1.0, 0.0], [0.3, 0.7], [1.0, 0.0]])
    second = torch.tensor([[0.0, 1.0], [0.3, 0.7], [0.5, 0.5]])
    mixed = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) - 0.5 * np.log(2)
    expected = torch.tensor([np.log(2), 0.0, mixed]).float()
    torch.testing.assert_close(mutual_information(torch.stack([first, second])), expected)

"""How the penalty of the ridge readout is chosen and the readout solved, over any number of ranks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from search.ranks import Ranks
from settings import tree_of
from sklearn.linear_model import Ridge
from sklearn.utils.class_weight import compute_class_weight

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria import criterion
from rcdp_hpc.reservoir.left_out import left_out, solve_rows
from rcdp_hpc.reservoir.ridge import one_hot, scaled_error, scaling_sums
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.partition.batches import BatchPlan
from rcdp_hpc.training.solve import solving_device, validation_errors
from rcdp_hpc.training.solve.ridge_fit import (
    ORIGINAL,
    SYNTHETIC,
    VALIDATION,
    GatheredRows,
    RidgeFit,
    RowSource,
    feature_bound,
    fit_ridge,
    left_out_suits,
    replacement_weights,
)
from rcdp_hpc.training.solve.ridge_rows import blocks_of_rank

ROWS, JUDGED, WIDTH, CLASSES = 240, 80, 20, 3
PENALTIES = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def config_of(**training: object) -> Config:
    settings = {"readout__kind": "ridge", "readout__ridge_penalties": PENALTIES, **training}
    return parse_config(tree_of(**settings), "(of a test)")


class Rows:
    """Uneven classes in the unit cube; of the training rows, the last of the rarest class are synthetic."""

    def __init__(self) -> None:
        rng = np.random.default_rng(8)
        count = ROWS + JUDGED
        self.labels = rng.choice(CLASSES, count, p=[0.55, 0.35, 0.1])
        centres = rng.normal(size=(CLASSES, WIDTH))
        self.states = torch.from_numpy(np.tanh(0.4 * centres[self.labels] + rng.normal(size=(count, WIDTH)))).float()
        self.origins = np.where(np.arange(count) < ROWS, ORIGINAL, VALIDATION)
        rare = np.flatnonzero((self.labels == 2) & (self.origins == ORIGINAL))
        self.origins[rare[len(rare) // 2 :]] = SYNTHETIC

    def gathered(self) -> GatheredRows:
        return GatheredRows(self.states, self.labels, self.origins)

    def source(self, comm: Communicator, bound: float = 1.0) -> RowSource:
        plan = BatchPlan(ROWS, 32, 12, comm.rank, comm.size, 1)

        def partitions(first: int, rows: int):
            of_split = replace(plan, rows=rows)
            for partition in of_split.local_partitions:
                start, stop = (first + bound for bound in of_split.partition_bounds(partition))
                yield [(self.states[start:stop], torch.from_numpy(self.labels[start:stop]))]

        return RowSource(
            WIDTH, CLASSES, ROWS, JUDGED, np.bincount(self.labels[:ROWS], minlength=CLASSES),
            lambda: partitions(0, ROWS), lambda: partitions(ROWS, JUDGED),
            lambda: self.gathered() if comm.is_root else None, bound,
        )  # fmt: skip


def fitted(rows: Rows, comm: Communicator | None = None, with_validation: bool = True, **training: object) -> RidgeFit:
    comm = comm or SingleProcess()
    return fit_ridge(config_of(**training), comm, rows.source(comm), with_validation)


def bits(fit: RidgeFit) -> tuple[object, ...]:
    arrays = (fit.readout.weights, fit.readout.intercept, fit.means, fit.deviations)
    return fit.penalty, fit.accuracy, *(array.tobytes() for array in arrays)


@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_any_number_of_ranks_gives_the_same_bits(selection, weights):
    rows, training = Rows(), {"readout__ridge_selection": selection, "loss__class_weights": weights}
    expected = bits(fitted(rows, **training))
    for size in (2, 3, 7):
        found = Ranks(size).run(lambda comm: fitted(rows, comm, **training))
        assert [bits(fit) for fit in found] == [expected] * size


@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("name", ["macro_f1", "macro_roc_auc", "recall:2"])
def test_a_criterion_chooses_the_penalty_on_any_number_of_ranks(selection, name):
    rows = Rows()
    training = {"readout__ridge_selection": selection, "readout__ridge_criterion": name}
    by, originals, last = criterion(name, "012"), rows.origins != SYNTHETIC, rows.origins == VALIDATION
    fit = fitted(rows, **training)
    weights = replacement_weights(rows.labels[originals], rows.labels, CLASSES, None)
    ranked = []
    for penalty in PENALTIES:
        if selection == "left_out":
            labels = rows.labels[originals]
            found = left_out(rows.states[originals], labels, CLASSES, [penalty], weights)
            scores, error = found.scores, found.errors[penalty]
        else:
            labels = rows.labels[last]
            scores = solve_rows(rows.states[~last], rows.labels[~last], CLASSES, penalty).predict(rows.states[last])
            shares = np.bincount(rows.labels[~last]) / ROWS
            error = scaled_error(*scaling_sums(scores, one_hot(labels, CLASSES), shares))
        ranked.append((round(by.fitness(labels, scores.argmax(1), scores), 9), -error, penalty))
    assert fit.penalty == max(ranked)[2]
    assert [bits(one) for one in Ranks(3).run(lambda comm: fitted(rows, comm, **training))] == [bits(fit)] * 3


@pytest.mark.parametrize("precision", ["single", "double"])
def test_codes_without_a_reservoir_are_summed_to_the_same_bits_on_any_number_of_ranks(precision):
    rows, extractor = Rows(), {"kind": "dictionary"}
    rows.states *= 7
    readout = {"kind": "ridge", "ridge_penalties": PENALTIES, "ridge_precision": precision}
    tree = {
        "reservoir": {"kind": "none"},
        "search": {"generations": 0},
        "extractor": extractor,
        "readout": {**readout, "ridge_selection": "validation"},
    }
    config = parse_config(tree, "(of a test)")
    found = [
        Ranks(size).run(lambda comm: fit_ridge(config, comm, rows.source(comm, feature_bound(config))))
        for size in (1, 2, 3, 7)
    ]
    assert {bits(fit) for fits in found for fit in fits} == {bits(found[0][0])}


def test_leave_one_out_uses_original_rows_with_the_weights_of_all():
    rows = Rows()
    judged = rows.origins != SYNTHETIC
    counts, all_counts = np.bincount(rows.labels[judged]), np.bincount(rows.labels)
    assert counts[2] < all_counts[2]
    weights = (all_counts / counts)[rows.labels[judged]]
    expected = left_out(rows.states[judged], rows.labels[judged], CLASSES, PENALTIES, weights)
    fit = fitted(rows, readout__ridge_selection="left_out")
    assert (fit.penalty, fit.accuracy, fit.selected_by) == (expected.penalty, expected.accuracy, "left-out")
    readout = solve_rows(rows.states, rows.labels, CLASSES, fit.penalty)
    np.testing.assert_array_equal(fit.readout.weights, readout.weights)
    scores = readout.predict(rows.states)
    np.testing.assert_allclose(fit.means, scores.mean(0), rtol=1e-5)
    np.testing.assert_allclose(fit.deviations, scores.std(0), rtol=1e-5)


def test_the_penalty_is_selected_on_validation_rows_which_are_fitted_afterwards():
    rows, train = Rows(), slice(ROWS)
    errors, accuracies, shares = {}, {}, np.bincount(rows.labels[train]) / ROWS
    for penalty in PENALTIES:
        readout = solve_rows(rows.states[train], rows.labels[train], CLASSES, penalty)
        scores, expected = readout.predict(rows.states[ROWS:]), rows.labels[ROWS:]
        errors[penalty] = scaled_error(*scaling_sums(scores, np.eye(CLASSES)[expected], shares))
        accuracies[penalty] = np.mean(scores.argmax(1) == expected)
    fit = fitted(rows, readout__ridge_selection="validation", readout__ridge_precision="double")
    assert fit.penalty == min(errors, key=errors.__getitem__)
    assert (fit.accuracy, fit.selected_by) == (accuracies[fit.penalty], "validation")
    readout = solve_rows(rows.states, rows.labels, CLASSES, fit.penalty)
    np.testing.assert_allclose(fit.readout.weights, readout.weights, rtol=1e-6, atol=1e-9)
    scores = readout.predict(rows.states)
    np.testing.assert_allclose(fit.means, scores.mean(0), rtol=1e-5)
    np.testing.assert_allclose(fit.deviations, scores.std(0), rtol=1e-4)


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_without_the_validation_rows_the_readout_is_that_of_the_training_rows(selection):
    rows = Rows()
    fit = fitted(rows, with_validation=False, readout__ridge_selection=selection, readout__ridge_precision="double")
    readout = solve_rows(rows.states[:ROWS], rows.labels[:ROWS], CLASSES, fit.penalty)
    np.testing.assert_allclose(fit.readout.weights, readout.weights, rtol=1e-6, atol=1e-9)
    assert fit.penalty == fitted(rows, readout__ridge_selection=selection, readout__ridge_precision="double").penalty


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_class_weights_weigh_the_rows_of_the_solve(selection):
    rows = Rows()
    fit = fitted(
        rows, readout__ridge_selection=selection, loss__class_weights="balanced", readout__ridge_precision="double"
    )
    counts = np.bincount(rows.labels[:ROWS])
    weights = (ROWS / (CLASSES * counts))[rows.labels]
    readout = solve_rows(rows.states, rows.labels, CLASSES, fit.penalty, weights)
    np.testing.assert_allclose(fit.readout.weights, readout.weights, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.readout.intercept, readout.intercept, rtol=1e-6)


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_smoothed_targets_give_smoothed_scores(selection):
    rows = Rows()
    plain, smooth = (
        fitted(rows, readout__ridge_selection=selection, loss__label_smoothing=share) for share in (0.0, 0.3)
    )
    expected = 0.7 * plain.readout.predict(rows.states) + 0.1
    np.testing.assert_allclose(smooth.readout.predict(rows.states), expected, atol=1e-6)
    np.testing.assert_allclose(smooth.means, 0.7 * plain.means + 0.1)
    np.testing.assert_allclose(smooth.deviations, 0.7 * plain.deviations)
    assert (smooth.penalty, smooth.accuracy) == (plain.penalty, plain.accuracy)


def test_states_of_many_validation_rows_are_computed_for_each_penalty(monkeypatch):
    rows = Rows()
    expected = bits(fitted(rows, readout__ridge_selection="validation"))
    monkeypatch.setattr(validation_errors, "STORED_BYTES", 100)
    assert bits(fitted(rows, readout__ridge_selection="validation")) == expected


@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("kind", ["balanced", "effective"])
def test_a_weighted_readout_is_that_of_scikit_learn(kind, selection):
    rows = Rows()
    rows.origins[rows.origins == SYNTHETIC] = ORIGINAL
    fit = fitted(
        rows, loss__class_weights=kind, loss__effective_beta=0.99, readout__ridge_selection=selection,
        readout__ridge_precision="double",
    )  # fmt: skip
    by_class = {
        "balanced": compute_class_weight("balanced", classes=np.arange(CLASSES), y=rows.labels[:ROWS]),
        "effective": 0.01 / (1 - 0.99 ** np.bincount(rows.labels[:ROWS])),
    }[kind]
    # A penalty per row of the mean weight 1 over the training rows.
    weights = (by_class * ROWS / by_class[rows.labels[:ROWS]].sum())[rows.labels]
    x = rows.states.double().numpy()
    mean = np.average(x, axis=0, weights=weights)
    standard = (x - mean) / np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
    ridge = Ridge(alpha=fit.penalty * weights.sum()).fit(standard, np.eye(CLASSES)[rows.labels], weights)
    np.testing.assert_allclose(fit.readout.predict(rows.states.double()), ridge.predict(standard), rtol=0, atol=2e-7)
    plain = fitted(rows, readout__ridge_selection=selection, readout__ridge_penalties=[fit.penalty])
    assert np.abs(plain.readout.weights - fit.readout.weights).max() > 0.01


def test_a_class_without_rows_cannot_be_weighted():
    comm, rows = SingleProcess(), Rows()
    source = replace(rows.source(comm), class_counts=np.array([3, 0, 2]))
    with pytest.raises(InputError, match="class number 1 has none"):
        fit_ridge(config_of(loss__class_weights="balanced"), comm, source)


@pytest.mark.parametrize(("rows", "width", "expected"), [(500, 40_000, True), (9000, 200, True), (9000, 3001, False),
                                                         (20_000, 20, False), (5000, 8000, False)])  # fmt: skip
def test_leave_one_out_is_used_for_few_rows(rows, width, expected):
    assert left_out_suits(config_of(), rows, width) == expected
    assert left_out_suits(config_of(readout__ridge_selection="left_out"), rows, width)
    assert not left_out_suits(config_of(readout__ridge_selection="validation"), rows, width)
    assert not left_out_suits(config_of(augment__shifts=1), rows, width)
    assert not left_out_suits(config_of(data__group_name="site"), rows, width)


def test_weights_replace_synthetic_rows():
    judged, all_rows = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1, 1, 1])
    assert replacement_weights(judged, all_rows, 2, None).tolist() == [1, 1, 1, 3]
    assert replacement_weights(judged, all_rows, 2, np.array([2.0, 0.5])).tolist() == [2, 2, 2, 1.5]
    assert replacement_weights(judged, judged, 2, None) is None


@pytest.mark.parametrize(("rows", "batch", "ranks"), [(10, 4, 3), (10, 4, 7), (0, 4, 2), (64, 64, 2), (65, 8, 4)])
def test_blocks_are_not_divided_between_ranks(rows, batch, ranks):
    bounds = [blocks_of_rank(rows, batch, rank, ranks) for rank in range(ranks)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == rows
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    assert all(start % batch == 0 or start == rows for start, _ in bounds)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss__kind": "focal"}, r"loss\.kind = 'focal' needs another readout\.kind than 'ridge'"),
        ({"loss__kind": "eq12"}, r"loss\.kind = 'eq12' needs another readout\.kind"),
        ({"loss__focal_gamma": 3.0}, r"loss\.focal_gamma = 3\.0 needs another readout\.kind"),
        (
            {"augment__shifts": 1, "readout__ridge_selection": "left_out"},
            r"augment\.shifts = 1 needs readout\.ridge_selection",
        ),
    ],
)
def test_what_ridge_cannot_do_is_refused(training, message):
    with pytest.raises(InputError, match=message):
        config_of(**training)


def test_features_with_small_deviation_are_solved_in_single_precision():
    rows = Rows()
    # Deviations of 2e-3 about a mean of 1: their squares are beyond the digits of float32 products of the values.
    rows.states = 1 + 2e-3 * rows.states
    single, double = (
        fitted(rows, readout__ridge_selection="validation", readout__ridge_precision=name)
        for name in ("single", "double")
    )
    assert single.penalty == double.penalty
    predicted = (fit.readout.predict(rows.states.double()) for fit in (single, double))
    np.testing.assert_allclose(*predicted, atol=2e-3)


def on_torch(source: RowSource) -> RowSource:
    """Return rows that torch sums and solves, as on a GPU."""
    return replace(source, device=torch.device("cpu"))


@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_a_device_chooses_and_solves_as_blas_and_as_any_number_of_ranks(selection, weights):
    rows = Rows()
    config = config_of(
        readout__ridge_selection=selection, loss__class_weights=weights, readout__ridge_precision="double"
    )
    expected = fit_ridge(config, SingleProcess(), rows.source(SingleProcess()))
    found = [
        Ranks(size).run(lambda comm: fit_ridge(config, comm, on_torch(rows.source(comm)))) for size in (1, 2, 3, 4)
    ]
    fit = found[0][0]
    assert {bits(one) for fits in found for one in fits} == {bits(fit)}
    assert (fit.penalty, fit.accuracy) == (expected.penalty, expected.accuracy)
    for name in ("weights", "intercept"):
        one, other = getattr(fit.readout, name), getattr(expected.readout, name)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
    np.testing.assert_allclose((fit.means, fit.deviations), (expected.means, expected.deviations), rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_device_solves_in_single_precision(dtype):
    rows = Rows()
    rows.states = (1 + 2e-3 * rows.states if dtype == torch.float32 else rows.states).to(dtype)
    config, comm = config_of(readout__ridge_selection="validation", readout__ridge_precision="single"), SingleProcess()
    fit, expected = fit_ridge(config, comm, on_torch(rows.source(comm))), fit_ridge(config, comm, rows.source(comm))
    assert (fit.penalty, fit.accuracy) == (expected.penalty, expected.accuracy)
    scores = [one.readout.predict(rows.states.double()) for one in (fit, expected)]
    np.testing.assert_allclose(*scores, atol=2e-3)


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_without_room_on_the_device_of_one_rank_all_ranks_solve_on_the_cpu(monkeypatch, caplog, selection):
    rows, config = Rows(), config_of(readout__ridge_selection=selection)
    expected = bits(fit_ridge(config, SingleProcess(), rows.source(SingleProcess())))
    room = iter([2**40, 2**10, None])
    monkeypatch.setattr(solving_device, "free_memory", lambda device: next(room))
    with caplog.at_level("WARNING"):
        found = Ranks(3).run(lambda comm: fit_ridge(config, comm, replace(on_torch(rows.source(comm)), level=30)))
    assert {bits(fit) for fit in found} == {expected}
    assert caplog.text.count("ridge over 20 features needs 0.0 GiB on cpu, and 0.0 GiB are free there") == 1

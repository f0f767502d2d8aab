"""Folds within the fitness, and the cache of matrices."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from search.group_search import small_config, small_data
from search.ranks import Ranks
from sklearn.metrics import f1_score

from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.data.split import _warn_once, fold_numbers
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.reservoir.fold_sums import NO_FOLD
from rcdp_hpc.reservoir.left_out import left_out, solve_rows
from rcdp_hpc.reservoir.ridge import one_hot, scaled_error, scaling_sums
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.inner_folds import balanced_folds, parent_folds, uses_one_pass
from rcdp_hpc.search.evaluation.matrix_cache import MatrixCache
from rcdp_hpc.search.evaluation.measured import error_and_accuracy
from rcdp_hpc.search.evaluation.rows import FitnessData, fitness_rows

CLASSES = ("a", "b", "c")
FLOATS = Storage()


def uneven() -> tuple[np.ndarray, np.ndarray]:
    """Return rows of three overlapping classes, so that every balancing method sees a border between them."""
    generator = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [60, 25, 15])
    return generator.normal(y[:, None], 0.8, (100, 4)).astype(np.float32), y


def test_folds_keep_the_proportions_and_differ_by_one_row():
    _, y = uneven()
    numbers = fold_numbers(y, CLASSES, 7, seed=3)
    assert np.ptp(np.bincount(numbers)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(numbers[y == label], minlength=7)) <= 1
    assert (fold_numbers(y, CLASSES, 7, seed=3) == numbers).all()
    assert (fold_numbers(y, CLASSES, 7, seed=4) != numbers).any()


def test_a_class_of_fewer_rows_than_folds_is_named_once(caplog):
    x, y = uneven()
    _warn_once.cache_clear()
    folds = balanced_folds(x, y, CLASSES, small_config(folds=20), FLOATS)
    assert sum(len(fold["y_val"]) for fold in folds) == len(y)
    assert sorted(map(tuple, np.concatenate([fold["x_val"] for fold in folds]))) == sorted(map(tuple, x))
    warnings = [record.getMessage() for record in caplog.records if "fewer samples than folds" in record.getMessage()]
    assert len(warnings) == 1
    assert "search.folds = 20" in warnings[0]
    assert "than folds: c (15);" in warnings[0]


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_rare_classes_are_balanced_in_every_fold_that_has_them(rare, caplog):
    generator = np.random.default_rng(2)
    y = np.repeat([0, 1, 2], [20, 11, rare])
    x = generator.normal(size=(len(y), 4)).astype(np.float32)
    config = small_config(folds=5)
    config.data.balance = "smote"
    for fold in balanced_folds(x, y, CLASSES, config, FLOATS):
        left = rare - np.count_nonzero(fold["y_val"] == 2)
        rows = fold["x_train"][fold["y_train"] == 2]
        assert len(rows) == (np.count_nonzero(fold["y_train"] == 0) if left else 0)
        if left == 1:
            assert len(np.unique(rows, axis=0)) == 1
    assert sum("for SMOTE with k" in record.getMessage() for record in caplog.records) == 1


def test_more_folds_than_rows_are_refused():
    x, y = uneven()
    with pytest.raises(InputError, match=r"search.folds = 20: there are only 12 samples; set search.folds to at most"):
        balanced_folds(x[::9], y[::9], CLASSES, small_config(folds=20), FLOATS)


def folds_of(balance: str, storage: Storage = FLOATS, **data: object) -> list[dict]:
    config = small_config(folds=5)
    config.data.balance = balance
    for key, value in data.items():
        setattr(config.data, key, value)
    x, y = uneven()
    return balanced_folds(storage.rounded(x), y, CLASSES, config, storage)


OVERSAMPLING = ("smote", "borderline_smote", "svm_smote", "adasyn", "kmeans_smote", "random_over")


@pytest.mark.parametrize("balance", OVERSAMPLING)
def test_only_the_training_part_is_balanced_and_nothing_leaks(balance):
    x, y = uneven()
    real = {row.tobytes() for row in x}
    held = []
    for fold in folds_of(balance, smote_neighbours=3):
        inside = np.bincount(y) - np.bincount(fold["y_val"])
        counts = np.bincount(fold["y_train"])
        assert counts[0] == inside[0]
        assert counts[1:].sum() > inside[1:].sum()
        if balance in ("smote", "random_over"):  # the other methods use the neighbours of each row
            assert counts.tolist() == [counts.max()] * 3
        val = {row.tobytes() for row in fold["x_val"]}
        train = {row.tobytes() for row in fold["x_train"]}
        assert val <= real
        assert not val & train
        assert real - val <= train
        original = x[[row.tobytes() not in val for row in x]]
        if balance != "svm_smote":  # which also extrapolates
            assert fold["x_train"].min() >= original.min()
            assert fold["x_train"].max() <= original.max()
        assert (not train <= real) == (balance != "random_over")
        held.extend(val)
    assert sorted(held) == sorted(real)


def test_undersampling_removes_rows_of_the_training_part():
    for fold in folds_of("random_under"):
        assert np.bincount(fold["y_train"]).tolist() == [12, 12, 12]
        assert len(fold["x_val"]) == 20
        assert not {row.tobytes() for row in fold["x_train"]} & {row.tobytes() for row in fold["x_val"]}


def test_folds_use_the_ratio_and_the_rounding_of_the_shards():
    for fold in folds_of("smote", balance_ratio=0.5):
        assert np.bincount(fold["y_train"]).tolist() == [48, 24, 24]
    halves = Storage("float16")
    for fold in folds_of("smote", halves):
        assert (halves.rounded(fold["x_train"]) == fold["x_train"]).all()


def test_categories_stay_categories_in_folds():
    x, y = uneven()
    x[:, 2] = np.arange(100) % 3
    config = small_config(folds=3)
    config.data.balance = "smotenc"
    for fold in balanced_folds(x, y, CLASSES, config, FLOATS, (2,)):
        assert set(fold["x_train"][:, 2]) == {0, 1, 2}
        assert len(set(np.bincount(fold["y_train"]))) == 1
    config.data.balance = "smote"
    with pytest.raises(InputError, match=r"search.folds = 3, fold 1: data.balance = 'smote' would mix"):
        balanced_folds(x, y, CLASSES, config, FLOATS, (2,))


def test_without_balancing_folds_have_the_real_rows():
    x, y = uneven()
    config = small_config(folds=4)
    config.data.balance = "none"
    for fold in balanced_folds(x, y, CLASSES, config, FLOATS):
        assert len(fold["x_train"]) + len(fold["x_val"]) == 100


class Shards:
    def __init__(self, groups: np.ndarray | None = None) -> None:
        self.groups = groups

    classes = ("a", "b")
    layout = SimpleNamespace(storage=FLOATS)
    index: ClassVar[dict] = {}

    def rows(self, split: str) -> int:
        return {"train": 40, "validation": 10}[split]

    def read(self, split: str, start: int, stop: int) -> SimpleNamespace:
        numbers = np.arange(start, stop)
        x = np.random.default_rng(0).normal(size=(stop - start, 3)).astype(np.float32)
        y = (numbers % 4 == 0).astype(np.int32)
        synthetic = numbers >= 32
        # A row after the first 40 is the neighbour of row 39, and rows 32 and 33 are between the same rows.
        neighbours = np.where(synthetic, np.maximum(2 * (numbers - 32), 1), -1)
        neighbours[numbers == 39] = 99
        sources = np.where(synthetic, 3 * (numbers - 32), numbers)
        return SimpleNamespace(
            x=x, y=y, synthetic=synthetic, length=None, source_index=sources, neighbour_index=neighbours,
            group=self.groups[start:stop] if self.groups is not None and split == "train" else None,
        )  # fmt: skip


def test_synthetic_rows_never_enter_folds_that_are_balanced_separately(caplog):
    caplog.set_level("INFO")
    for settings in ({"folds": 2}, {"folds": 4, "evaluation": "train"}):
        data = fitness_rows(Shards(), small_config(**settings), SingleProcess())
        assert len(data.folds) == settings["folds"]
        assert sum(len(fold.y_val) for fold in data.folds) == 32
        assert data.parent_folds is None
        assert f"search.folds = {settings['folds']}: each fold is balanced and solved separately:" in caplog.text
    assert data.fingerprint() != fitness_rows(Shards(), small_config(folds=2), SingleProcess()).fingerprint()
    assert fitness_rows(Shards(), small_config(), SingleProcess()).folds == ()


def test_rows_of_one_pass_have_the_folds_of_their_original_rows():
    config = small_config(folds=4)
    data = fitness_rows(Shards(), config, SingleProcess())
    assert data.folds == ()
    numbers = fold_numbers(data.y_train[:32], ("a", "b"), 4, config.run.seed)
    assert (data.original_folds == numbers).all()
    assert (data.parent_folds[:32] == numbers[:, None]).all()
    assert data.parent_folds[33:39].tolist() == [[numbers[3 * i], numbers[2 * i]] for i in range(1, 7)]
    assert data.parent_folds[39].tolist() == [numbers[21], NO_FOLD]
    assert data.fingerprint() != fitness_rows(Shards(), small_config(folds=5), SingleProcess()).fingerprint()


@pytest.mark.parametrize("folds", [2, 3])
def test_the_rows_of_a_group_are_in_one_fold(folds):
    groups = (np.arange(40) // 3 % 9).astype(np.int32)
    data = fitness_rows(Shards(groups), small_config(folds=folds), SingleProcess())
    if folds == 2:  # balanced separately
        held_out = [set(groups[:32][fold.origin_val]) for fold in data.folds]
        assert not held_out[0] & held_out[1]
    else:
        assert all(len(set(data.original_folds[groups[:32] == group])) == 1 for group in range(9))
        assert set(data.original_folds) == {0, 1, 2}


def test_a_row_that_is_not_read_has_the_fold_of_its_group():
    groups = np.array([0, 0, 1, 1, 2, 2, 0, 0, 3])
    source, neighbour = np.array([0, 1, 2, 3, 4, 5, 2, 7, 4]), np.array([0, 1, 2, 3, 4, 5, 6, 0, 8])
    synthetic = np.arange(9) >= 6
    rows = SimpleNamespace(y=np.arange(9) % 2, synthetic=synthetic, source_index=source, neighbour_index=neighbour)
    rows.group = groups[source]
    whole = {"source_index": np.arange(9), "synthetic": np.zeros(9, bool), "group": groups}
    found = parent_folds(rows, ("a", "b"), small_config(folds=3), whole)
    first, second, third = found[[0, 2, 4], 0].tolist()
    assert sorted({first, second, third}) == [0, 1, 2]
    # The rows 6 and 7 are of the first group and the row 8 is of a group that no row that is read has.
    assert found[6:].tolist() == [[second, first], [first, first], [third, NO_FOLD]]


def test_mask_channels_stay_0_or_1_in_folds():
    x, y = uneven()
    x[:, 3] = np.arange(100) % 2
    config = small_config(folds=3)
    config.data.balance = "smote"
    for fold in balanced_folds(x, y, CLASSES, config, FLOATS, masks=1):
        assert set(fold["x_train"][:, 3]) == {0, 1}


@pytest.mark.parametrize(
    ("balance", "folds", "evaluation", "expected"),
    [
        ("smote", 3, "ridge", True),
        ("random_over", 5, "ridge", True),
        ("none", 5, "ridge", True),
        ("adasyn", 5, "ridge", True),
        ("smote", 2, "ridge", False),
        ("smote", 5, "train", False),
        ("smotenc", 5, "ridge", False),
        ("my_module:Mine", 5, "ridge", False),
    ],
)
def test_which_folds_are_evaluated_from_one_pass(balance, folds, evaluation, expected):
    config = small_config(folds=folds, evaluation=evaluation)
    config.data.balance = balance
    assert uses_one_pass(config) == expected


def folded(config, balance: str = "smote") -> FitnessData:
    """Return rows with folds of the original ones, each balanced separately."""
    data, search = small_data(), config.search
    config.data.balance = balance
    uneven_rows = np.flatnonzero((data.y_train != 2) | (np.arange(300) % 3 == 0))
    x, y = data.x_train[uneven_rows], data.y_train[uneven_rows]
    folds = balanced_folds(x, y, ("a", "b", "c", "d"), config, FLOATS)
    assert len(folds) == search.folds
    return FitnessData(x, y, data.x_val, data.y_val, 4, tuple(FitnessData(**fold, classes=4) for fold in folds))


FOLD_VALUES = {"density": 0.2, "leak": 0.7, "activation": "tanh"}


@pytest.mark.parametrize("selection", ["left_out", "validation"])
@pytest.mark.parametrize("balance", ["smote", "none"])
def test_the_fitness_is_the_mean_over_held_out_rows(selection, balance):
    config = small_config(folds=3)
    config.readout.ridge_selection = selection
    data = folded(config, balance)
    reservoir = Reservoir(config.reservoir.model_copy(update=FOLD_VALUES), 5)
    penalties, labels = config.readout.ridge_penalties, data.y_train
    of_all = np.bincount(np.concatenate([fold.y_train for fold in data.folds])) / np.bincount(labels)
    chosen = left_out(reservoir.compute(data.x_train), labels, 4, penalties, of_all[labels]).penalty
    squares, right, rows, answers = 0.0, 0.0, 0, []
    for fold in data.folds:
        train, held_out = reservoir.compute(fold.x_train), reservoir.compute(fold.x_val)
        targets, shares = one_hot(fold.y_val, 4), np.bincount(fold.y_train) / len(fold.y_train)
        scores = [
            solve_rows(train, fold.y_train, 4, penalty).predict(held_out)
            for penalty in ([chosen] if selection == "left_out" else penalties)
        ]
        best = min(scores, key=lambda one, others=(targets, shares): scaled_error(*scaling_sums(one, *others)))
        error, accuracy = error_and_accuracy(best, fold.y_val)
        held_out_rows = len(fold.y_val)
        squares += error * held_out_rows
        right += accuracy * held_out_rows
        rows += held_out_rows
        answers.append(best.argmax(1))
    result = ReservoirFitness(config, data)(FOLD_VALUES)
    assert result.error == pytest.approx(squares / rows, rel=1e-4)
    assert result.accuracy == pytest.approx(right / rows, abs=0.011)
    grouped = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_group(comm)(FOLD_VALUES).error)
    assert grouped == [result.error] * 3
    config.search.fitness = "macro_f1"
    of_all_folds = np.concatenate([fold.y_val for fold in data.folds]), np.concatenate(answers)
    by_criterion = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_group(comm)(FOLD_VALUES).fitness)
    assert by_criterion == pytest.approx([f1_score(*of_all_folds, average="macro")] * 3, abs=0.02)


@pytest.mark.parametrize("evaluation", ["ridge", "train"])
def test_states_of_original_rows_are_computed_once_for_all_folds(evaluation, monkeypatch):
    config = small_config(folds=3, evaluation=evaluation)
    data, driven, drive = folded(config), [], Reservoir.drive

    def counted(reservoir, x, *arguments, **options):
        driven.append(len(x))
        return drive(reservoir, x, *arguments, **options)

    monkeypatch.setattr(Reservoir, "drive", counted)
    assert ReservoirFitness(config, data)(FOLD_VALUES).reason is None
    synthetic = sum(int(fold.synthetic.sum()) for fold in data.folds)
    assert synthetic > 0
    assert sum(driven) == len(data.x_train) + synthetic


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("evaluation", ["ridge", "train"])
def test_states_from_the_original_rows_equal_those_of_the_folds(evaluation, noise):
    config = small_config(folds=3, evaluation=evaluation)
    config.reservoir.noise = noise
    data = folded(config)
    apart = replace(data, folds=tuple(replace(fold, origin_train=None, origin_val=None) for fold in data.folds))
    shared, computed = (ReservoirFitness(config, rows)(FOLD_VALUES) for rows in (data, apart))
    if noise:  # different for every block of rows
        assert shared.error == pytest.approx(computed.error, rel=0.1)
    else:
        assert shared.error == pytest.approx(computed.error, rel=1e-4)


@pytest.mark.parametrize("scaling", ["spectral_radius", "weight_scale"])
def test_shared_matrices_have_the_same_bits(scaling):
    settings = small_config().reservoir.model_copy(update={"nodes": 60, "scaling": scaling})
    cache = MatrixCache()
    for change in ({}, {"spectral_radius": 1.3, "weight_scale": 0.4}, {"density": 0.2}, {"input_scaling": 3.0}):
        chosen = settings.model_copy(update=change)
        cached, direct = cache.matrices(chosen, 5), reservoir_matrices(chosen, 5)
        assert (cached.recurrent != direct.recurrent).nnz == 0
        assert cached.recurrent.data.tobytes() == direct.recurrent.data.tobytes()
        assert (cached.input == direct.input).all()
        assert (cached.bias == direct.bias).all()
    assert cache.reused == 2


def test_the_cache_is_bounded_and_the_error_without_a_cycle_is_the_same():
    settings = small_config().reservoir
    cache = MatrixCache(max_bytes=1)
    for density in (0.1, 0.2, 0.1):
        cache.matrices(settings.model_copy(update={"density": density}), 5)
    assert cache.reused == 0
    for density, word in ((0.0007, "no cycle"), (1e-9, "without any connection")):
        chosen = settings.model_copy(update={"density": density})
        for _ in range(2):
            with pytest.raises(CandidateError, match=word):
                cache.matrices(chosen, 5)

"""Folds within the fitness, and matrices that candidates share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from search.grouped import small_config, small_data
from search.ranks import Ranks

from rcdp_hpc.data.split import _warn_once, fold_numbers
from rcdp_hpc.data.storage import Storage
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.runtime.comm import SingleProcess
from rcdp_hpc.search.data import FitnessData, fitness_rows
from rcdp_hpc.search.fitness import ReservoirFitness
from rcdp_hpc.search.folds import balanced_folds
from rcdp_hpc.search.matrices import MatrixCache

CLASSES = ("a", "b", "c")
FLOATS = Storage()


def uneven() -> tuple[np.ndarray, np.ndarray]:
    """Return rows of three classes that overlap, so that all ways of balancing find a border between them."""
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
    said = [record.getMessage() for record in caplog.records if "fewer samples than folds" in record.getMessage()]
    assert len(said) == 1
    assert "search.folds = 20" in said[0]
    assert "of class c (15);" in said[0]


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_rare_classes_are_balanced_in_every_fold_that_has_them(rare, caplog):
    generator = np.random.default_rng(2)
    y = np.repeat([0, 1, 2], [20, 11, rare])
    x = generator.normal(size=(len(y), 4)).astype(np.float32)
    config = small_config(folds=5)
    config.data.balance = "smote"
    for fold in balanced_folds(x, y, CLASSES, config, FLOATS):
        left = rare - np.count_nonzero(fold["y_val"] == 2)
        own = fold["x_train"][fold["y_train"] == 2]
        assert len(own) == (np.count_nonzero(fold["y_train"] == 0) if left else 0)
        if left == 1:
            assert len(np.unique(own, axis=0)) == 1
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
        if balance in ("smote", "random_over"):  # the others look at each row's surroundings
            assert counts.tolist() == [counts.max()] * 3
        val = {row.tobytes() for row in fold["x_val"]}
        train = {row.tobytes() for row in fold["x_train"]}
        assert val <= real
        assert not val & train
        assert real - val <= train
        own = x[[row.tobytes() not in val for row in x]]
        if balance != "svm_smote":  # which also goes beyond its seeds
            assert fold["x_train"].min() >= own.min()
            assert fold["x_train"].max() <= own.max()
        assert (not train <= real) == (balance != "random_over")
        held.extend(val)
    assert sorted(held) == sorted(real)


def test_undersampling_takes_rows_of_the_training_part_away():
    for fold in folds_of("random_under"):
        assert np.bincount(fold["y_train"]).tolist() == [12, 12, 12]
        assert len(fold["x_val"]) == 20
        assert not {row.tobytes() for row in fold["x_train"]} & {row.tobytes() for row in fold["x_val"]}


def test_the_ratio_and_the_rounding_of_the_shards_hold_inside_folds():
    for fold in folds_of("smote", balance_ratio=0.5):
        assert np.bincount(fold["y_train"]).tolist() == [48, 24, 24]
    halves = Storage("float16")
    for fold in folds_of("smote", halves):
        assert (halves.rounded(fold["x_train"]) == fold["x_train"]).all()


def test_categories_stay_whole_inside_folds():
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"balance": "smote_tomek"}, r"search.folds = 5: data.balance = 'smote_tomek' has cleaned"),
        ({"balance": "smote_enn"}, r"search.folds = 5: data.balance = 'smote_enn' has cleaned"),
        ({"balance": "smote", "balance_counts": [60, 60, 60]}, r"search.folds = 5: data.balance_counts are numbers"),
    ],
)
def test_what_folds_cannot_be_balanced_by_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        folds_of(**settings)


def test_without_balancing_folds_hold_the_real_rows():
    x, y = uneven()
    config = small_config(folds=4)
    config.data.balance = "none"
    for fold in balanced_folds(x, y, CLASSES, config, FLOATS):
        assert len(fold["x_train"]) + len(fold["x_val"]) == 100


class Shards:
    classes = ("a", "b")
    layout = SimpleNamespace(storage=FLOATS)
    index: ClassVar[dict] = {}

    def rows(self, split: str) -> int:
        return {"train": 40, "validation": 10}[split]

    def read(self, split: str, start: int, stop: int) -> SimpleNamespace:
        numbers = np.arange(start, stop)
        x = np.random.default_rng(0).normal(size=(stop - start, 3)).astype(np.float32)
        y = (numbers % 4 == 0).astype(np.int32)
        return SimpleNamespace(x=x, y=y, synthetic=numbers >= 32, length=None)


def test_synthetic_rows_never_enter_the_folds():
    data = fitness_rows(Shards(), small_config(folds=4), SingleProcess())
    assert len(data.folds) == 4
    assert sum(len(fold.y_val) for fold in data.folds) == 32
    assert data.fingerprint() != fitness_rows(Shards(), small_config(folds=2), SingleProcess()).fingerprint()
    assert fitness_rows(Shards(), small_config(), SingleProcess()).folds == ()


def test_the_fitness_is_the_mean_over_held_out_rows():
    config, data = small_config(), small_data()
    parts = [
        FitnessData(data.x_train[:200], data.y_train[:200], data.x_val[:60], data.y_val[:60], 4),
        FitnessData(data.x_train[100:], data.y_train[100:], data.x_val[60:], data.y_val[60:], 4),
    ]
    values = {"density": 0.2, "leak": 0.7, "activation": "tanh"}
    single = [ReservoirFitness(config, part)(values) for part in parts]
    folded = FitnessData(data.x_train, data.y_train, data.x_val, data.y_val, 4, tuple(parts))
    both = ReservoirFitness(config, folded)(values)
    assert both.error == pytest.approx(0.6 * single[0].error + 0.4 * single[1].error, rel=1e-12)
    assert both.accuracy == pytest.approx(0.6 * single[0].accuracy + 0.4 * single[1].accuracy, rel=1e-12)
    grouped = Ranks(3).run(lambda comm: ReservoirFitness(config, folded).in_group(comm)(values).error)
    assert grouped == [both.error] * 3


@pytest.mark.parametrize("scaling", ["spectral_radius", "weight_scale"])
def test_shared_matrices_have_the_same_bits(scaling):
    settings = small_config().reservoir.model_copy(update={"nodes": 60, "scaling": scaling})
    cache = MatrixCache()
    for change in ({}, {"spectral_radius": 1.3, "weight_scale": 0.4}, {"density": 0.2}, {"input_scaling": 3.0}):
        chosen = settings.model_copy(update=change)
        mine, theirs = cache.matrices(chosen, 5), reservoir_matrices(chosen, 5)
        assert (mine.recurrent != theirs.recurrent).nnz == 0
        assert mine.recurrent.data.tobytes() == theirs.recurrent.data.tobytes()
        assert (mine.input == theirs.input).all()
        assert (mine.bias == theirs.bias).all()
    assert cache.reused == 2


def test_the_cache_forgets_what_does_not_fit_and_keeps_the_words_of_failure():
    settings = small_config().reservoir
    cache = MatrixCache(bytes_kept=1)
    for density in (0.1, 0.2, 0.1):
        cache.matrices(settings.model_copy(update={"density": density}), 5)
    assert cache.reused == 0
    for density, word in ((0.0007, "no cycle"), (1e-9, "without any connection")):
        chosen = settings.model_copy(update={"density": density})
        for _ in range(2):
            with pytest.raises(CandidateError, match=word):
                cache.matrices(chosen, 5)

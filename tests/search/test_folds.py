"""Folds within the fitness, and matrices that candidates share."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from search.grouped import small_config, small_data
from search.ranks import Ranks

from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.reservoir.connection import reservoir_matrices
from rcdp_hpc.runtime.comm import SingleProcess
from rcdp_hpc.search.data import FitnessData, fitness_rows
from rcdp_hpc.search.fitness import ReservoirFitness
from rcdp_hpc.search.folds import balanced_folds, fold_numbers
from rcdp_hpc.search.matrices import MatrixCache

CLASSES = ("a", "b", "c")


def uneven() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    y = np.repeat([0, 1, 2], [60, 25, 15])
    return generator.normal(y[:, None], 0.3, (100, 4)).astype(np.float32), y


def test_folds_keep_the_proportions_and_differ_by_one_row():
    _, y = uneven()
    numbers = fold_numbers(y, CLASSES, 7, seed=3)
    assert np.ptp(np.bincount(numbers)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(numbers[y == label], minlength=7)) <= 1
    assert (fold_numbers(y, CLASSES, 7, seed=3) == numbers).all()
    assert (fold_numbers(y, CLASSES, 7, seed=4) != numbers).any()


def test_a_class_of_fewer_rows_than_folds_is_named():
    with pytest.raises(InputError, match=r"search.folds = 20.* of c \(15\)"):
        fold_numbers(uneven()[1], CLASSES, 20, 0)


def test_only_the_training_part_is_balanced_and_nothing_leaks():
    x, y = uneven()
    found = balanced_folds(x, y, CLASSES, small_config(folds=5))
    real = {row.tobytes() for row in x}
    held = []
    for fold in found:
        counts = np.bincount(fold["y_train"])
        assert counts.tolist() == [counts.max()] * 3
        val = {row.tobytes() for row in fold["x_val"]}
        train = {row.tobytes() for row in fold["x_train"]}
        assert val <= real
        assert not val & train
        synthetic = [row for row in fold["x_train"] if row.tobytes() not in real]
        assert synthetic
        inside = x[[row.tobytes() not in val for row in x]]
        assert np.min(synthetic) >= inside.min()
        assert np.max(synthetic) <= inside.max()
        held.extend(val)
    assert sorted(held) == sorted(real)


def test_without_balancing_folds_hold_the_real_rows():
    x, y = uneven()
    config = small_config(folds=4)
    config.data.balance = "none"
    for fold in balanced_folds(x, y, CLASSES, config):
        assert len(fold["x_train"]) + len(fold["x_val"]) == 100


def test_another_way_of_balancing_is_refused():
    config = small_config(folds=2)
    config.data.balance = "adasyn"
    with pytest.raises(InputError, match=r"search.folds = 2.*not by 'adasyn'"):
        balanced_folds(*uneven(), CLASSES, config)


class Shards:
    classes = ("a", "b")

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

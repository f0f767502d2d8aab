"""Candidates evaluated on sequences of unequal length: padding has no effect."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from search.group_search import small_config
from search.ranks import Ranks

from rcdp_hpc.data.balancing.lengths import resample_steps
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.left_out import left_out
from rcdp_hpc.reservoir.ridge import one_hot
from rcdp_hpc.reservoir.states import Reservoir
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.inner_folds import balanced_folds
from rcdp_hpc.search.evaluation.rows import FitnessData, fitness_rows

VALUES = {"density": 0.2, "leak": 0.7, "activation": "tanh"}
CLASSES = ("a", "b", "c")


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def sequences(rows: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return noisy ramps of 3 to 9 steps padded with zeros, their labels and their lengths."""
    generator = np.random.default_rng(seed)
    y, lengths = np.arange(rows) % 3, generator.integers(3, 10, rows)
    ramp = np.linspace(-1, 1, 9)[None, :, None] * (y[:, None, None] - 1.0)
    x = (ramp + generator.normal(0, 0.3, (rows, 9, 4))).astype(np.float32)
    x[np.arange(9) >= lengths[:, None]] = 0
    return x, y, lengths


def data_of() -> FitnessData:
    (x, y, lengths), (x_val, y_val, lengths_val) = sequences(150), sequences(60, seed=2)
    return FitnessData(x, y, x_val, y_val, 3, (), lengths, lengths_val)


def with_other_padding(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the sequences with other padding, partly NaN."""
    x = x.copy()
    beyond = np.arange(x.shape[1]) >= lengths[:, None]
    x[beyond] = np.where(np.arange(beyond.sum())[:, None] % 2, np.float32(7e8), np.float32(np.nan))
    return x


@pytest.mark.parametrize("kept", [{"states": 2}, {"states": 1, "reduction": ["mean"]}])
def test_the_fitness_equals_that_of_single_sequences(kept):
    config, data = small_config(), data_of()
    config.reservoir = config.reservoir.model_copy(update=kept)
    found = ReservoirFitness(config, data)(VALUES)
    reservoir = Reservoir(config.reservoir.model_copy(update=VALUES), 4)

    def alone(x, lengths):
        parts = [reservoir.states(own[None, :length]).numpy() for own, length in zip(x, lengths, strict=True)]
        return np.concatenate(parts).astype(np.float64)

    states = np.concatenate([alone(data.x_train, data.lengths_train), alone(data.x_val, data.lengths_val)])
    labels = np.concatenate([data.y_train, data.y_val])
    judged = left_out(states, labels, 3, config.readout.ridge_penalties)
    assert found.error == pytest.approx(np.mean((judged.scores - one_hot(labels, 3)) ** 2), rel=1e-3)
    assert found.accuracy > 0.5


@pytest.mark.parametrize("evaluation", ["ridge", "train"])
@pytest.mark.parametrize(
    "options", [{}, {"noise": 0.1}, {"reduction": ["mean_std"], "states": 1, "bidirectional": True}]
)
def test_padding_does_not_drive_the_reservoir(evaluation, options):
    config, data = small_config(evaluation=evaluation), data_of()
    config.reservoir = config.reservoir.model_copy(update=options)
    other = replace(
        data,
        x_train=with_other_padding(data.x_train, data.lengths_train),
        x_val=with_other_padding(data.x_val, data.lengths_val),
    )
    first, second = (ReservoirFitness(config, part)(VALUES) for part in (data, other))
    assert first.reason is None
    assert (first.error, first.accuracy) == (second.error, second.accuracy)


@pytest.mark.parametrize("evaluation", ["ridge", "train"])
def test_a_group_of_ranks_has_the_bits_of_one(evaluation):
    config, data = small_config(evaluation=evaluation), data_of()
    alone = ReservoirFitness(config, data)(VALUES)
    together = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_group(comm)(VALUES))
    assert [found.error for found in together] == [alone.error] * 3


def test_lengths_are_part_of_the_fingerprint():
    data = data_of()
    shorter = replace(data, lengths_train=data.lengths_train - (data.lengths_train > 5))
    assert data.fingerprint() != shorter.fingerprint()


def test_a_sequence_shorter_than_its_states_is_refused_before_the_search():
    config, data = small_config(), data_of()
    config.reservoir.states = 4
    with pytest.raises(InputError, match=r"reservoir.states = 4 is more than the 3 steps"):
        ReservoirFitness(config, data)


def test_sequences_of_unequal_length_are_read_by_steps():
    config, data = small_config(), data_of()
    config.reservoir.sequence = "columns"
    with pytest.raises(InputError, match="'columns' does not follow the steps of sequences of unequal length"):
        ReservoirFitness(config, data)


def uneven() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, _, lengths = sequences(100)
    return x, np.repeat([0, 1, 2], [60, 25, 15]), lengths


def test_folds_balance_sequences_by_neighbours_of_the_seeds_length():
    x, y, lengths = uneven()
    found = balanced_folds(x, y, CLASSES, small_config(folds=3), Storage(), lengths=lengths)
    real = {row.tobytes(): int(length) for row, length in zip(x, lengths, strict=True)}
    for fold in found:
        assert np.ptp(np.bincount(fold["y_train"])) == 0
        assert [real[row.tobytes()] for row in fold["x_val"]] == fold["lengths_val"].tolist()
        inside = np.arange(9) < fold["lengths_train"][:, None]
        assert not fold["x_train"][~inside].any()
        made = [place for place, row in enumerate(fold["x_train"]) if row.tobytes() not in real]
        assert made
        train = [row for row in range(100) if x[row].tobytes() not in {own.tobytes() for own in fold["x_val"]}]
        for place in made[:10]:
            own, label, length = fold["x_train"][place], fold["y_train"][place], fold["lengths_train"][place]
            seeds = [row for row in train if y[row] == label and lengths[row] == length]
            others = np.array([row for row in train if y[row] == label])
            ends = resample_steps(x[others], lengths[others], np.full(len(others), length))
            assert any(on_a_segment(own, x[seed], ends) for seed in seeds)


def on_a_segment(point: np.ndarray, start: np.ndarray, ends: np.ndarray) -> bool:
    """Return whether a point is between `start` and one of `ends`."""
    way, gone = (ends - start).reshape(len(ends), -1), (point - start).ravel()
    step = way @ gone / np.maximum((way**2).sum(1), 1e-12)
    return bool((np.abs(step[:, None] * way - gone).max(1) < 1e-5).any())


class Shards:
    """The part of `ShardReader` that `fitness_rows` uses."""

    classes = CLASSES
    layout = SimpleNamespace(storage=Storage())
    index: ClassVar[dict] = {}

    def rows(self, split: str) -> int:
        return {"train": 100, "validation": 30}[split]

    def read(self, split: str, start: int, stop: int) -> SimpleNamespace:
        x, y, lengths = uneven()
        part = slice(start, stop)
        synthetic = np.arange(100)[part] % 10 == 9
        sources = np.arange(100)[part] - 9 * synthetic
        neighbours = np.where(synthetic, sources + 1, -1)
        return SimpleNamespace(
            x=x[part], y=y[part], synthetic=synthetic, length=lengths[part].astype(np.int32), source_index=sources,
            neighbour_index=neighbours, group=None,
        )  # fmt: skip


@pytest.mark.parametrize("folds", [2, 3])
def test_rows_and_folds_have_their_lengths(folds):
    found = fitness_rows(Shards(), small_config(folds=folds), SingleProcess())
    assert len(found.folds) == (2 if folds == 2 else 0)
    assert (found.lengths_train == uneven()[2]).all()
    assert found.lengths_val.dtype == np.int64
    for fold in found.folds:
        assert len(fold.lengths_train) == len(fold.x_train)
        assert len(fold.lengths_val) == len(fold.x_val)
    fitted = ReservoirFitness(small_config(folds=folds), found)(VALUES)
    assert fitted.reason is None

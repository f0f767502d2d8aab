"""Small work takes one thread, by configuration and data alone; a resumed training takes what its checkpoint says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.stage import _threads
from rcdp_hpc.training.threads import is_small, is_small_pass, threads_of_rank, threads_of_test


@pytest.mark.parametrize(
    ("profile", "settings", "shape", "rows", "small"),
    [
        ("digits", [], (8, 8), 1230, True),
        # As many more epochs do not make the step larger.
        ("digits", ["training.epochs=5000"], (8, 8), 1230, True),
        ("digits", ["training.batch=1024"], (8, 8), 1230, False),
        ("digits", ["readout.outputs=8192"], (8, 8), 1230, False),
        ("digits", ["readout.hidden=400"], (8, 8), 1230, True),
        ("digits", ["readout.hidden=400", "readout.layers=8"], (8, 8), 1230, False),
        # The states of many samples are worth all cores.
        ("digits", [], (8, 8), 500_000, False),
        ("mnist", ["training.baseline=false"], (28, 28), 60_000, False),
        ("vowels", [], (29, 12), 270, True),
        ("vowels", ["reservoir.nodes=4000"], (29, 12), 270, False),
        ("mnist-ridge", [], (28, 28), 60_000, False),
        # How long a user's own network, or a trained extractor, takes is not known.
        ("digits", ["readout.kind=lstm"], (8, 8), 1230, False),
        ("digits", ["search.generations=0", "extractor.kind=convolution"], (8, 8), 1230, False),
    ],
)
def test_what_is_small(profile, settings, shape, rows, small):
    assert is_small(load_config(profile, settings), shape, rows) == small


def test_with_fewer_rows_than_features_the_smaller_products_count():
    settings = ["reservoir.nodes=1500", "reservoir.reduction=all"]
    assert is_small(load_config("vowels", settings), (4, 1), 50)
    assert not is_small(load_config("vowels", settings), (4, 1), 5000)


@pytest.mark.parametrize(
    ("profile", "shape", "rows", "small"),
    [
        ("vowels", (29, 12), 370, True),
        ("vowels", (29, 12), 50_000, False),
        ("digits", (8, 8), 360, True),
        ("mnist-frozen", (28, 28), 10, False),
    ],
)
def test_a_pass_over_few_test_rows_is_small(profile, shape, rows, small):
    assert is_small_pass(load_config(profile), shape, rows) == small


def test_the_evaluation_uses_one_thread_for_few_rows():
    comm = SingleProcess()
    assert threads_of_test(load_config("digits", ["training.threads=3"]), comm, shards(360)) == 3
    assert threads_of_test(load_config("digits"), comm, shards(360)) == 1
    assert threads_of_test(load_config("digits"), comm, shards(50_000_000)) == 4


def shards(rows: int) -> SimpleNamespace:
    return SimpleNamespace(sample_shape=(8, 8), rows=lambda split: rows)


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr("rcdp_hpc.training.threads.threads_per_rank", lambda comm: 4)


def test_the_rule_counts_only_if_the_configuration_leaves_the_number_open(caplog):
    caplog.set_level("INFO")
    comm = SingleProcess()
    assert threads_of_rank(load_config("digits", ["training.threads=3"]), comm, shards(1230)) == 3
    assert threads_of_rank(load_config("digits"), comm, shards(500_000)) == 4
    assert not caplog.records
    assert threads_of_rank(load_config("digits"), comm, shards(1230)) == 1
    assert "the work is small" in caplog.text


@pytest.mark.parametrize(("ranks", "expected"), [(1, 2), (2, 1)])
def test_a_resumed_training_uses_its_earlier_threads_on_the_same_ranks(ranks, expected):
    saved = SimpleNamespace(ranks=ranks, threads=2)
    assert _threads(load_config("digits"), SingleProcess(), shards(1230), saved) == expected

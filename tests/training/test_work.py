"""Estimates by which a CPU or a GPU is chosen: small work stays on the processors."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.search.work import search_work
from rcdp_hpc.training.work import Work, training_work

# Profile, shape of a sample, training rows, whether training and search are faster on a GPU than on 8 threads.
PROFILES = [
    ("digits", (8, 8), 1000, False, False),
    ("vowels", (29, 12), 216, False, None),
    ("mnist", (28, 28), 48_000, True, True),
    ("mnist-convolution", (28, 28), 48_000, True, None),
    ("mnist-ridge", (28, 28), 51_000, True, None),
    ("cifar10-long", (32, 32, 3), 48_500, True, None),
    ("paper-lstm", (28, 28), 48_000, True, True),
]


@pytest.mark.parametrize(("profile", "shape", "rows", "trains", "searches"), PROFILES)
def test_large_work_is_faster_on_a_gpu(profile, shape, rows, trains, searches):
    config = load_config(profile, ["data.path=/data"] if profile != "digits" else [])
    work = training_work(config, shape, rows, 1)
    assert (work.gpu_seconds() < work.cpu_seconds(8)) is trains
    if searches is not None:
        work = search_work(config, shape, rows, 1)
        # A search has search.threads = 1 thread on each rank.
        assert (work.gpu_seconds() < work.cpu_seconds(1)) is searches


def test_ranks_divide_the_work_and_share_a_gpu():
    config = load_config("mnist", ["data.path=/data"])
    one, four = (training_work(config, (28, 28), 48_000, ranks) for ranks in (1, 4))
    assert four.products == pytest.approx(one.products / 4)
    assert four.steps == one.steps / 4
    alone, shared = (Work(1e13, 1000, 10).gpu_seconds(count) for count in (1, 4))
    assert shared > alone
    assert Work(1e13).cpu_seconds(16) == Work(1e13).cpu_seconds(64)
    unrecorded = load_config("mnist", ["data.path=/data", "training.graph=off"])
    assert training_work(unrecorded, (28, 28), 48_000, 1).gpu_seconds() > 2 * one.gpu_seconds()


def test_classes_of_the_users_own_have_no_known_size():
    convolution = ["data.path=/data", "search.generations=0", "extractor.kind=mine:Net"]
    assert training_work(load_config("mnist-convolution", convolution), (28, 28), 100, 1) is None
    function = ["search.evaluation=function", "search.function=mine:judge"]
    assert search_work(load_config("digits", function), (8, 8), 100, 1) is None


@pytest.mark.parametrize("settings", [[], ["readout.kind=lstm", "reservoir.reduction=all"], ["readout.kind=elm"]])
@pytest.mark.parametrize(
    "reservoir", [[], ["reservoir.kind=none", "search.generations=0"], ["reservoir.kind=diagonal"]]
)
def test_every_kind_of_readout_and_reservoir_has_an_estimate(settings, reservoir):
    evaluation = ["search.evaluation=train"] if settings else []
    config = load_config("image", ["data.source=digits", *settings, *reservoir, *evaluation])
    assert training_work(config, (8, 8), 1000, 1).products > 0
    if config.has_search:
        assert search_work(config, (8, 8), 1000, 1).products > 0

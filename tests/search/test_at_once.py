"""The number of candidates at once that a search chooses for itself, with fakes of the memory of a GPU."""

from __future__ import annotations

import pytest
import torch

from rcdp_hpc.config import flatten, parse_config
from rcdp_hpc.search import at_once
from rcdp_hpc.search.at_once import batch_bytes, chosen_at_once
from rcdp_hpc.search.records.settings import search_settings, with_missing_defaults

GPU = torch.device("cuda", 0)
GIB = 2**30
ADDED = ("candidates_at_once", "device")


def config(reservoir=(), **search):
    tree = {
        "reservoir": {"kernel": "dense-bf16", "nodes": 1000, **dict(reservoir)},
        "search": {"population": 50, "generations": 2, "space": {"density": {"low": 0.1, "high": 0.5}}, **search},
    }
    return parse_config(tree, "(of a test)")


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """Set the memory of the GPU in GiB."""

    def of(gib: float) -> None:
        monkeypatch.setattr(at_once, "total_gpu_memory", lambda _: int(gib * GIB))

    of(80)
    return of


def chosen(settings, device=GPU, unequal=False, sharing=1):
    return chosen_at_once(settings, (28, 28), 60_000, 10, unequal, device, sharing)


def test_a_gpu_gets_as_many_as_fill_it_and_a_processor_one(memory):
    assert chosen(config()) == 25  # two batches for a generation of 50
    assert chosen(config(population=64)) == 32
    assert chosen(config(population=3)) == 3
    assert chosen(config(), torch.device("cpu")) == 1
    memory(8)
    few = chosen(config())
    assert 1 < few <= 17
    memory(80)
    assert chosen(config(), sharing=10) == few
    memory(0.5)
    assert chosen(config()) == 1


def test_large_reservoirs_and_many_rows_need_more_memory():
    def each(settings, rows=5000):
        return batch_bytes(settings, (28, 28), rows, 2000, 10)[0]

    assert each(config({"nodes": 4000})) > 2 * each(config({"nodes": 2000}))
    assert each(config()) > 2 * each(config(), 500)
    assert each(config(folds=5, train_rows=50_000), 50_000) > each(config({"nodes": 1001}))


@pytest.mark.parametrize(
    "settings",
    [
        config({"layers": 2}), config({"noise": 0.1}), config({"kernel": "sparse-fp32"}), config(evaluation="train"),
        config(group_ranks=2), config(space={"nodes": {"low": 10, "high": 20}}),
    ],
)  # fmt: skip
def test_candidates_that_cannot_be_stacked_are_evaluated_one_by_one(settings):
    assert chosen(settings) == 1


def test_the_largest_state_set_that_may_be_selected_counts(memory):
    memory(8)
    selecting = config(method="select", state_sets=["inputs-1/bias-1", "values/segments"])
    assert 1 <= chosen(selecting) < chosen(config())
    assert chosen(config(method="select", state_sets=["inputs-1/bias-1"])) > chosen(selecting)


def test_series_of_unequal_length_are_evaluated_one_by_one():
    assert chosen(config(), unequal=True) == 1


def test_a_search_that_was_started_by_an_earlier_version_goes_on():
    recorded = [search_settings(config(candidates_at_once=count), "")["search"] for count in (0, 1, 2)]
    assert [one["candidates_at_once"] for one in recorded] == [1, 1, 2]
    function = config(evaluation="function", function="mine:judge")
    assert search_settings(function, "")["search"]["device"] == "cpu"
    current = search_settings(config(device="cpu", candidates_at_once=1), "")
    earlier = {**current, "search": {key: current["search"][key] for key in current["search"] if key not in ADDED}}
    assert with_missing_defaults(earlier, current) == flatten(current)

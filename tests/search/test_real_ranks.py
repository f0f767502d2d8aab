"""Searches over real ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from launch import REPOSITORY, run_ranks
from search.fake_fitness import CheapFitness, cheap_config
from search.group_search import architecture_config, small_config, small_data
from search.mpi_seven_ranks import ARCHITECTURES, AUTOMATIC, COMBINATIONS, HALVING, STOPPED
from search.outcome import outcome

from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.records import checkpoint as checkpoints

FOLDER = REPOSITORY / "tests" / "search"
pytestmark = pytest.mark.mpi


def program(name: str, *arguments: object) -> list[str]:
    return [sys.executable, str(FOLDER / name), *map(str, arguments)]


def alone(folder: Path, **search: int) -> tuple:
    config = cheap_config(**search)
    run_search(config, SingleProcess(), CheapFitness(config), folder)
    return outcome(folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    """Return the folder of a search with a killed rank of three, then a stop signal to two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    killed = run_ranks(3, program("fake_fitness.py", folder / "stopped", "SIGKILL", 9), timeout=60)
    assert killed.returncode != 0
    assert "rank 2" in killed.stdout
    done = run_ranks(2, program("fake_fitness.py", folder / "stopped", "SIGUSR1", 3), timeout=60)
    assert done.returncode == 75, done.stdout
    assert done.stdout.count("StoppedError") == 2
    return folder


@pytest.fixture(scope="module")
def seven(stopped) -> Path:
    """Return the folder of the searches of `mpi_seven_ranks.py`."""
    (stopped / "damaged").mkdir()
    (stopped / "damaged" / checkpoints.NAME).write_bytes(b"PK")
    done = run_ranks(7, program("mpi_seven_ranks.py", stopped), timeout=180)
    assert done.returncode == 3, done.stdout
    assert done.stdout.count("DataDamagedError") == 7
    return stopped


def test_history_is_the_same_for_any_number_of_ranks(seven, tmp_path):
    straight = alone(tmp_path)
    for ranks in (1, 2, 3, 4, 7):
        assert outcome(seven / f"cheap-{ranks}") == straight
        used = {line["timing"]["rank"] for line in read_sealed_lines(seven / f"cheap-{ranks}" / "history.jsonl")}
        assert used - {None} == set(range(ranks))


def test_halving_is_the_same_for_any_number_of_ranks(seven, tmp_path):
    straight = alone(tmp_path, **HALVING)
    for ranks in (1, 2, 3):
        assert outcome(seven / f"halved-{ranks}") == straight


def test_killed_then_stopped_then_resumed_on_another_number_ends_equal(seven, tmp_path):
    assert outcome(seven / "stopped") == alone(tmp_path)


@pytest.fixture(scope="module")
def ridge(tmp_path_factory) -> tuple:
    """Return the outcome of a search over small reservoirs by one process without a stop."""
    folder, config = tmp_path_factory.mktemp("ridge"), small_config()
    run_search(config, SingleProcess(), ReservoirFitness(config, small_data()), folder)
    return outcome(folder)


@pytest.mark.parametrize(("ranks", "together"), [*COMBINATIONS, AUTOMATIC])
def test_ranks_with_and_without_groups_give_the_trajectory_of_one(seven, ridge, ranks, together):
    assert outcome(seven / f"ridge-{ranks}-{together}") == ridge


@pytest.mark.parametrize(("ranks", "together"), COMBINATIONS)
def test_ranks_with_and_without_groups_resume_the_trajectory_of_one(seven, ridge, ranks, together):
    folder = seven / f"resumed-{ranks}-{together}"
    checkpoint = checkpoints.read_checkpoint(folder / STOPPED)
    assert checkpoint.optimizer["generation"] == 2
    assert 0 < np.sum(checkpoint.archive.places[:, 0] == 2) < 5  # stopped during generation 2
    assert outcome(folder) == ridge


def test_a_trained_fitness_stopped_twice_in_groups_gives_the_trajectory_of_one(seven, tmp_path):
    config = small_config(evaluation="train")
    run_search(config, SingleProcess(), ReservoirFitness(config, small_data()), tmp_path)
    assert outcome(seven / "train-stopped-in-a-group-and-resumed") == outcome(tmp_path)


def test_a_search_over_architecture_is_the_same_for_any_number_of_ranks(seven, tmp_path):
    config = architecture_config()
    run_search(config, SingleProcess(), ReservoirFitness(config, small_data()), tmp_path)
    straight = outcome(tmp_path)
    for ranks, together in ARCHITECTURES:
        assert outcome(seven / f"architecture-{ranks}-{together}") == straight
    tried = [line["values"] for line in straight[0]]
    assert {type(values["nodes"]) for values in tried} == {int}
    assert len({(one["nodes"], one["layers"], one["states"], one["readout_activation"]) for one in tried}) > 5


def test_a_hang_of_one_rank_ends_all_and_names_it(tmp_path):
    hung = run_ranks(2, program("hanging.py", tmp_path, "free"), timeout=60)
    assert hung.returncode != 0
    assert "rank 1: the candidate density = " in hung.stdout

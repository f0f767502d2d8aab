"""The search loop: history, checkpoints, kills, stops, and resuming with other settings."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from launch import REPOSITORY, run_ranks
from search.fake_fitness import CheapFitness, FunctionOfValues, KilledAtCall, cheap_config
from search.outcome import outcome

from rcdp_hpc.errors import DataDamagedError, InputError, StageFailedError, StoppedError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.records import checkpoint as checkpoints
from rcdp_hpc.search.records.best import read_best, read_best_record

CHEAP = [sys.executable, str(REPOSITORY / "tests" / "search" / "fake_fitness.py")]


def search(folder: Path, fitness=None, **settings):
    config = cheap_config(**settings)
    return run_search(config, SingleProcess(), fitness or CheapFitness(config), folder)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple:
    """Return the outcome of a search that was not stopped."""
    folder = tmp_path_factory.mktemp("straight")
    search(folder)
    return outcome(folder)


def test_the_history_has_every_candidate(tmp_path):
    fitness = CheapFitness(cheap_config())
    best = search(tmp_path, fitness)
    lines = read_sealed_lines(tmp_path / "history.jsonl")
    places = [(line["generation"], line["candidate"]) for line in lines]
    assert places == [(generation, candidate) for generation in range(1, 7) for candidate in range(7)]
    fields = "generation candidate values position fitness error accuracy reason share reused timing"
    assert all(list(line) == fields.split() for line in lines)
    failed = [line for line in lines if line["values"]["leak"] > 0.8]
    assert failed
    first_error = next(line["error"] for line in lines if line not in failed)
    assert best.first_error == first_error
    for line in lines:
        assert (line["reason"] is not None) == (line["fitness"] is None) == (line in failed)
        assert line["values"]["input_scaling"] == pytest.approx(10 ** line["position"][1])
        if line not in failed:
            density_term = 2.0 / first_error * (line["values"]["density"] - 0.1) ** 2
            assert line["fitness"] == pytest.approx(1 / line["error"] - density_term)
    top = max((line for line in lines if line["fitness"] is not None), key=lambda line: line["fitness"])
    assert (best.values, best.fitness, best.generation) == (top["values"], top["fitness"], top["generation"])
    assert read_best(tmp_path / "best.toml") == best.values
    assert read_best_record(tmp_path / "best.toml") == best
    assert best.evaluations == fitness.calls == sum(not line["reused"] for line in lines)


def test_identical_candidates_are_evaluated_once(tmp_path):
    """A space of few integers has far fewer candidates than moths."""
    space = {"input_scaling": {"low": 1, "high": 5, "integer": True}}
    config = cheap_config(population=6, generations=10, space=space)
    seen = []

    def fitness(values):
        seen.append(values["input_scaling"])
        return Evaluation(float(values["input_scaling"]), 1.0, 0.5)

    best = run_search(config, SingleProcess(), FunctionOfValues(fitness), tmp_path)
    assert len(seen) == len(set(seen)) <= 5
    assert best.values == {"input_scaling": 5}
    lines = read_sealed_lines(tmp_path / "history.jsonl")
    assert sum(not line["reused"] for line in lines) == len(seen)
    assert {line["timing"]["rank"] for line in lines if line["reused"]} == {None}


def test_a_finished_search_is_not_run_again(tmp_path):
    first = search(tmp_path)
    (tmp_path / "best.toml").unlink()
    fitness = CheapFitness(cheap_config())
    assert search(tmp_path, fitness) == first
    assert fitness.calls == 0
    assert (tmp_path / "best.toml").exists()


@pytest.mark.parametrize("call", [1, 5, 20, 36])
def test_killed_and_resumed_ends_equal(tmp_path, straight, call):
    killed = run_ranks(0, [*CHEAP, str(tmp_path), "SIGKILL", str(call)], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "best.toml").exists()
    search(tmp_path)
    assert outcome(tmp_path) == straight


@pytest.mark.parametrize("call", [1, 3, 11])
def test_stopped_and_resumed_ends_equal_and_repeats_no_candidate(tmp_path, straight, call):
    from rcdp_hpc.runtime import signals

    signals.install()
    config = cheap_config()
    total = CheapFitness(config)
    search(tmp_path / "whole", total)
    first, second = KilledAtCall(config, call, signal.SIGUSR1), CheapFitness(config)
    with pytest.raises(StoppedError, match="SIGUSR1"):
        search(tmp_path / "stopped", first)
    signals.clear()
    search(tmp_path / "stopped", second)
    assert first.calls == call
    assert first.calls + second.calls == total.calls
    assert outcome(tmp_path / "stopped") == straight


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_every_stop_signal_ends_a_search_with_75_and_a_checkpoint(tmp_path, straight, name):
    done = run_ranks(0, [*CHEAP, str(tmp_path), name, "9"], timeout=60)
    assert done.returncode == 75, done.stdout
    assert f"search stopped by {name} in generation 2 of 6" in done.stdout
    assert len(checkpoints.read_checkpoint(tmp_path / checkpoints.NAME).archive.places) == 9
    search(tmp_path)
    assert outcome(tmp_path) == straight


def test_a_checkpoint_is_written_while_the_next_generation_is_evaluated(tmp_path, monkeypatch):
    started, in_time = threading.Event(), []

    class Signalling(CheapFitness):
        def __call__(self, values):
            if self.calls == 7:  # the first generation is complete
                started.set()
            return super().__call__(values)

    def save(folder, checkpoint):
        in_time.append(started.wait(10))
        checkpoints.save_checkpoint(folder, checkpoint)

    monkeypatch.setattr("rcdp_hpc.search.coordinator.save_checkpoint", save)
    search(tmp_path, Signalling(cheap_config()), generations=2)
    assert in_time == [True, True]


def stopped_in_generation(folder: Path, call: int) -> None:
    from rcdp_hpc.runtime import signals

    signals.install()
    config = cheap_config()
    with pytest.raises(StoppedError):
        search(folder, KilledAtCall(config, call, signal.SIGUSR1))
    signals.clear()


def test_a_stop_before_the_first_candidate_evaluates_nothing(tmp_path, straight):
    from rcdp_hpc.runtime import signals

    signals._remember(signal.SIGTERM, None)
    fitness = CheapFitness(cheap_config())
    with pytest.raises(StoppedError, match="SIGTERM in generation 1 of 6"):
        search(tmp_path, fitness)
    assert fitness.calls == 0
    signals.clear()
    search(tmp_path)
    assert outcome(tmp_path) == straight


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "history", "gone"])
def test_after_a_damaged_checkpoint_the_one_before_is_used(tmp_path, straight, damage, caplog):
    stopped_in_generation(tmp_path, 20)
    path = tmp_path / checkpoints.NAME
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        content[len(content) // 3] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "gone":  # killed between the two renames
        path.unlink()
    else:  # the checkpoint is intact, but the history has lost its end
        saved = checkpoints.read_checkpoint(path)
        mark = replace(saved.history, size=saved.history.size + 100)
        checkpoints.save_checkpoint(tmp_path, replace(saved, history=mark))
    search(tmp_path)
    assert outcome(tmp_path) == straight
    warnings = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == (0 if damage == "gone" else 1)
    assert all("Resumed from" in record.message for record in warnings)


def test_two_damaged_checkpoints_are_refused(tmp_path):
    stopped_in_generation(tmp_path, 20)
    for name in (checkpoints.NAME, checkpoints.PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(DataDamagedError, match=r"no intact checkpoint.*search again"):
        search(tmp_path)


def test_an_altered_history_is_refused(tmp_path):
    stopped_in_generation(tmp_path, 20)
    history = tmp_path / "history.jsonl"
    history.write_text(history.read_text().replace("0", "1", 1))
    with pytest.raises(DataDamagedError, match="altered"):
        search(tmp_path)


def test_every_flipped_byte_of_a_checkpoint_is_detected(tmp_path):
    stopped_in_generation(tmp_path, 9)
    path = tmp_path / checkpoints.NAME
    content = path.read_bytes()
    for place in np.random.default_rng(0).choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            read = checkpoints.read_checkpoint(path)
        except DataDamagedError:
            continue
        # only the two bytes of the comment's length are outside the digest
        assert read.settings == cheap_settings(content, tmp_path)


def cheap_settings(content: bytes, folder: Path) -> dict:
    other = folder / "other.npz"
    other.write_bytes(content)
    return checkpoints.read_checkpoint(other).settings


def test_a_checkpoint_reads_as_any_npz(tmp_path):
    search(tmp_path)
    with np.load(tmp_path / checkpoints.NAME, allow_pickle=False) as archive:
        assert int(archive["optimizer.generation"]) == 7
        assert json.loads(archive["json"].tobytes())["settings"]["run"] == {"seed": 3}


def test_other_settings_are_refused_and_named(tmp_path):
    stopped_in_generation(tmp_path, 20)
    config = cheap_config(validation_rows=77)
    config.reservoir.nodes = 77
    config.data.path = "elsewhere"  # may change
    config.run.progress = True  # no setting of the search
    config.reservoir.density = 0.33  # searched: every candidate replaces it
    with pytest.raises(InputError) as refused:
        run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    text = str(refused.value)
    assert "reservoir.nodes (1000 -> 77), search.validation_rows (2000 -> 77)" in text
    assert "data.path" not in text
    assert "progress" not in text
    assert "density" not in text


def test_a_search_continues_if_only_keys_that_may_change_differ(tmp_path, straight):
    stopped_in_generation(tmp_path, 20)
    config = cheap_config()
    config.data.verify_on_read = False
    config.reservoir.density = 0.33
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    assert outcome(tmp_path) == straight


def test_other_data_or_another_optimiser_is_refused(tmp_path):
    stopped_in_generation(tmp_path, 20)
    config = cheap_config()
    with pytest.raises(InputError, match=r"shards\.fingerprint"):
        run_search(config, SingleProcess(), CheapFitness(config), tmp_path, fingerprint="other")
    with pytest.raises(InputError, match=r"search\.optimizer"):
        run_search(cheap_config(optimizer="random"), SingleProcess(), CheapFitness(config), tmp_path)


def test_if_every_candidate_fails_the_error_has_the_reason(tmp_path):
    config = cheap_config(generations=2)

    def fitness(values):
        return Evaluation(-np.inf, np.nan, np.nan, reason="no cycle")

    with pytest.raises(StageFailedError, match=r"every candidate.*no cycle"):
        run_search(config, SingleProcess(), FunctionOfValues(fitness), tmp_path)


@pytest.mark.parametrize("call", [1, 4, 7])
def test_a_full_disk_is_reported_and_loses_no_evaluation(tmp_path, straight, call, monkeypatch):
    """Each generation flushes two files: the history and the checkpoint."""
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StageFailedError, match="no space left"):
        search(tmp_path)
    search(tmp_path)
    assert outcome(tmp_path) == straight


def test_a_search_without_generations_or_dimensions_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing to search"):
        search(tmp_path, generations=0)
    with pytest.raises(InputError, match=r"search\.space is empty"):
        search(tmp_path, space={})

"""Progress of a search and a training, as `rcdp status` shows it."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from rcdp_hpc.cli.progress import stage_progress
from rcdp_hpc.cli.status import describe_run
from rcdp_hpc.config import load_config
from rcdp_hpc.runtime.digests import append_sealed, write_sealed
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.search.records.efficiency import Usage, append_usage


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A new run directory, for 10 generations and 20 epochs."""
    run = RunDirectory(tmp_path)
    run.write_config(load_config("digits", ["search.generations=10", "training.epochs=20"]))
    for folder in (run.search, run.train, run.state_file("train").parent):
        folder.mkdir()
    return run


def train(run: RunDirectory, epochs: int, seconds: float = 90.0, ago: float = 0.0) -> Path:
    """Add `epochs` finished epochs, the last some time ago; return the file of metrics."""
    path = run.train / "metrics.jsonl"
    begun = len(path.read_text().splitlines()) if path.exists() else 0
    for epoch in range(begun, begun + epochs):
        append_sealed(path, {"epoch": epoch, "validation_accuracy": 0.5 + epoch / 100, "seconds": seconds})
    os.utime(path, (time.time() - ago,) * 2)
    return path


def search(run: RunDirectory, generation: int, fitness: float | None, wall: float = 30.0, share: float = 1.0) -> None:
    append_usage(run.search, Usage(generation, 8, 2, 2, wall, wall, wall))
    append_sealed(run.search / "history.jsonl", {"generation": generation, "fitness": fitness, "share": share})


def test_a_stage_that_has_not_started_has_no_progress(run):
    assert [stage_progress(run, stage) for stage in ("prepare", "search", "train", "evaluate")] == [None] * 4


def test_progress_of_a_training_by_its_epochs_and_recent_times(run):
    train(run, 3, seconds=900.0)
    train(run, 5)
    found = stage_progress(run, "train")
    assert found.words == "epoch 8 of 20, validation accuracy 57.00 %"
    assert found.with_time == f"{found.words}, about 18 min left"
    train(run, 0, ago=60.0)
    assert stage_progress(run, "train").seconds_left == pytest.approx(12 * 90 - 60, abs=5)
    # If an epoch takes longer than the earlier ones, or a clock is late, the remaining epochs still need their time.
    for ago, rest in ((4000.0, 11 * 90), (-4000.0, 12 * 90)):
        train(run, 0, ago=ago)
        assert stage_progress(run, "train").seconds_left == rest


def test_progress_shows_the_step_within_a_long_epoch(run):
    write_sealed(run.position_file, {"epoch": 0, "step": 30, "steps": 400})
    assert stage_progress(run, "train").with_time == "epoch 1 of 20: step 30 of 400"
    train(run, 3)
    assert "step" not in stage_progress(run, "train").words  # it is of an epoch that is done
    write_sealed(run.position_file, {"epoch": 3, "step": 200, "steps": 400})
    assert (
        stage_progress(run, "train").words == "epoch 3 of 20, validation accuracy 52.00 %; step 200 of 400 of epoch 4"
    )


def test_no_remaining_time_after_the_last_epoch(run):
    train(run, 20)
    assert stage_progress(run, "train").with_time == "epoch 20 of 20, validation accuracy 69.00 %"


def test_an_incomplete_line_is_ignored_and_a_damaged_line_is_reported(run):
    path = train(run, 2)
    whole = path.read_text()
    write_text(path, whole + whole[:20])
    assert stage_progress(run, "train").words.startswith("epoch 2 of 20")
    write_text(path, whole[:20] + "\n" + whole)
    assert stage_progress(run, "train").with_time == f"{path}: line 1 was cut short or altered."


def test_progress_of_a_search_by_its_generations_and_the_best_complete_candidate(run):
    search(run, 1, None)
    assert stage_progress(run, "search").words == "generation 1 of 10"
    search(run, 2, 9.0, wall=10.0, share=0.25)
    search(run, 2, 4.0, wall=20.0)
    search(run, 3, 3.5)
    found = stage_progress(run, "search")
    assert found.words == "generation 3 of 10, best fitness 4"
    assert found.seconds_left == pytest.approx(7 * 30, abs=5)


def test_the_status_of_a_run_and_of_its_tasks_has_it(run):
    run.record_state("train", "running")
    train(run, 2)
    text = "epoch 2 of 20, validation accuracy 51.00 %"
    assert f"train     was killed ({text}); start it again to continue" in describe_run(run)
    with RunLock(run.lock):
        assert re.search(rf"train     running for \d+\.\d s: {text}, about 27 min left", describe_run(run))
    run.path.rename(run.path.with_name("seed-1"))
    array = RunDirectory(run.path.with_name("array"))
    array.path.mkdir()
    run.path.with_name("seed-1").rename(array.path / "seed-1")
    (task,) = array.tasks()
    task.record_state("prepare", "done")
    task.record_state("search", "done")
    assert f"  seed-1: train was killed ({text}); start it again to continue" in describe_run(array)
    with RunLock(task.lock):
        assert re.search(rf"  seed-1: train running for \d+\.\d s: {text}, about 27 min left", describe_run(array))

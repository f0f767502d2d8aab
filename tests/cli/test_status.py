"""The text of `rcdp status` for a run and for a folder of runs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rcdp_hpc.cli import main
from rcdp_hpc.cli.hints import unused_name, what_next
from rcdp_hpc.cli.runs import duration
from rcdp_hpc.config import load_config
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.lock import RunLock
from rcdp_hpc.runtime.rundir import RunDirectory

RESULTS = {
    "prepare": {"train": 1230, "validation": 216, "test": 359},
    "search": {"fitness": 38.2476, "evaluations": 32, "accuracy": 0.94444, "generations": 4},
    "train": {"epochs": 60, "best_epoch": 41, "validation_accuracy": 0.9676},
    "evaluate": {"samples": 359, "correct": 348, "accuracy": 348 / 359, "macro_f1": 0.9689},
}


def make_run(path: Path, done: int = 4, ranks: int = 1, **settings: str) -> RunDirectory:
    """Create a run directory in which the first `done` stages are finished."""
    run = RunDirectory(path)
    run.write_config(load_config("digits", [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]))
    for stage, result in list(RESULTS.items())[:done]:
        run.record_state(stage, "done", seconds=3.21, ranks=ranks, result=result)
    return run


def status(path: Path, capsys) -> list[str]:
    assert main(["status", str(path)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_finished_run(tmp_path, capsys):
    make_run(tmp_path / "run")
    assert status(tmp_path / "run", capsys)[:6] == [
        f"run directory {tmp_path / 'run'}",
        "no job is running here",
        "  prepare   done in 3.2 s: 1230 training, 216 validation, 359 test rows",
        "  search    done in 3.2 s: best fitness 38.248 of 32 candidates, validation accuracy 94.44 %",
        "  train     done in 3.2 s: best epoch 41 of 60, validation accuracy 96.76 %",
        "  evaluate  done in 3.2 s: accuracy 96.94 % (348 of 359), macro F1 0.9689",
    ]


def test_ranks_are_named_only_if_there_were_several(tmp_path, capsys):
    make_run(tmp_path / "one")
    make_run(tmp_path / "four", ranks=4)
    assert "on 1 rank" not in "\n".join(status(tmp_path / "one", capsys))
    assert "  train     done in 3.2 s on 4 ranks: best epoch" in "\n".join(status(tmp_path / "four", capsys))


def test_a_stopped_or_failed_stage_shows_the_reason_and_the_next_command(tmp_path, capsys):
    run = make_run(tmp_path / "run", done=2)
    run.record_state("train", "stopped", reason="stopped by SIGUSR1 after epoch 3")
    lines = status(run.path, capsys)
    assert "  train     stopped with a checkpoint: stopped by SIGUSR1 after epoch 3" in lines
    assert lines[-1].startswith(f"next: rcdp train --out {run.path}")
    run.record_state("train", "failed", reason="out of memory")
    assert "  train     failed: out of memory" in status(run.path, capsys)


def test_results_of_another_version_are_shown_unchanged(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    run.record_state("search", "done", seconds=1.0, result={"score": 5})
    assert "  search    done in 1.0 s: score 5" in status(run.path, capsys)


def test_a_folder_of_runs_is_a_line_each(tmp_path, capsys):
    make_run(tmp_path / "done")
    make_run(tmp_path / "mnist/prepared", done=1)
    make_run(tmp_path / "new", done=0)
    make_run(tmp_path / "failed", done=1).record_state("search", "failed", reason="x")
    make_run(tmp_path / "killed", done=2).record_state("train", "running")
    busy = make_run(tmp_path / "busy", done=2)
    busy.record_state("train", "running")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/state").mkdir()
    (tmp_path / "damaged/state/evaluate.json").write_text("{")
    (tmp_path / "notes").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "again").symlink_to(tmp_path)
    folds = RunDirectory(tmp_path / "folds")
    folds.write_config(load_config("digits", ["data.folds=5"]))
    for fold in (1, 2):
        make_run(folds.fold(fold).path)
    with RunLock(busy.lock):
        head, *lines = status(tmp_path, capsys)
    assert head.split() == ["run", "accuracy", "macro", "F1", "last", "change", "state"]
    found = {line.split()[0]: line for line in lines}
    assert sorted(found) == ["busy", "damaged", "done", "failed", "folds", "killed", "mnist/prepared", "new"]
    assert " 96.94 %    0.9689  " in found["done"]
    for name, state in {
        "done": "done",
        "busy": "train running",
        "failed": "search failed",
        "folds": "2 of 5 folds done",
        "killed": "train was killed",
        "mnist/prepared": "prepare done",
        "new": "not started",
    }.items():
        assert found[name].endswith(f"  {state}"), found[name]
    assert "cannot be read" in found["damaged"]


LOCKS = {
    "empty": (lambda path: path.touch(), "in use by an unknown process (its lock cannot be read: it is empty)"),
    "object": (lambda path: path.write_text("{}"), "in use by an unknown process"),
    "list": (lambda path: path.write_text("[]"), "in use by an unknown process"),
    "null": (lambda path: path.write_text("null"), "in use by an unknown process"),
    "binary": (lambda path: path.write_bytes(bytes(range(256))), "in use by an unknown process"),
    "large": (lambda path: (path.touch(), os.truncate(path, 2**30)), "larger than any lock"),
    "old": (
        lambda path: (path.touch(), os.utime(path, (0, 0))),
        "no job seems to run here (stale lock: its holder an unknown process",
    ),
    "future": (lambda path: (path.touch(), os.utime(path, (4e9, 4e9))), "in the future: the clocks differ"),
    "folder": (lambda path: path.mkdir(), "no job can start here: {path}: it is a folder; move it away"),
    "link": (lambda path: path.symlink_to("nowhere"), "no job can start here: {path}: it is a link; move it away"),
    "pipe": (os.mkfifo, "no job can start here: {path}: it is a pipe"),
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_of_any_form_is_described(name, tmp_path, capsys):
    run = make_run(tmp_path / "runs/one", done=2)
    run.record_state("train", "running")
    make, text = LOCKS[name]
    make(run.lock)
    assert text.format(path=run.lock) in "\n".join(status(run.path, capsys))
    assert "one" in status(tmp_path / "runs", capsys)[1]


def test_a_cross_validation_in_a_list_has_its_mean(tmp_path, capsys):
    folds = RunDirectory(tmp_path / "runs/folds")
    make_run(folds.fold(1).path)
    folds.report.mkdir()
    write_sealed(folds.report / "summary.json", {"mean": {"accuracy": 0.95, "macro_f1": 0.94}})
    assert "95.00 %    0.9400" in status(tmp_path / "runs", capsys)[1]


@pytest.mark.parametrize(
    ("place", "words"), [("", "not a run directory, and contains none"), ("file", "a file; rcdp status")]
)
def test_other_folders_than_runs_are_refused(place, words, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["status", str(tmp_path / place)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (12.3, "12 s"), (600, "10 min"), (7200, "2.0 h"), (90000, "25.0 h"), (260000, "3 days")],
)
def test_a_duration_is_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("source", "samples"),
    [("digits", "NEW.npz"), ("csv", "NEW.csv"), ("parquet", "NEW.parquet"), ("image_folder", "NEW_IMAGES"),
     ("ts", "NEW.ts"), ("hdf5", "NEW.h5"), ("npy", "NEW.npy")],
)  # fmt: skip
def test_the_next_command_fits_the_source(source, samples, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "a run", data__source=source)
    command = f"rcdp predict 'a run' {samples} --to labels.csv"
    assert command in what_next("run", Path("a run"), run.config())
    assert command.replace("'a run'", f"'{run.path}'") in status(run.path, capsys)[-1]


def test_no_hint_overwrites_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("digits")
    for command in ("run", "prepare", "search", "train", "evaluate"):
        assert "my.toml" not in what_next(command, Path("runs/x"), config, "their.toml")
    assert "> my.toml" in what_next("run", Path("runs/x"), config, "mnist")
    for name in ("my.toml", "labels.csv"):
        Path(name).write_text("precious")
    text = what_next("run", Path("runs/x"), config, "mnist")
    assert "> my-2.toml" in text
    assert "--to labels-2.csv" in text
    Path("my-2.toml").write_text("precious")
    assert unused_name("my.toml") == "my-3.toml"

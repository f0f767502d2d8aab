"""benchmarks/series.py: what it runs, what it keeps, and the table that it prints."""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile

import numpy as np
import pytest
from launch import REPOSITORY

HEADER = "@problemName Waves\n@timeStamps false\n@univariate true\n@equalLength true\n@classLabel {}\n@data\n"
QUICK = "rcdp reservoir.nodes=30 search.generations=0"


@pytest.fixture(scope="module")
def program():
    """Return the program that makes the table of docs/series.md."""
    spec = importlib.util.spec_from_file_location("series", REPOSITORY / "benchmarks" / "series.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def write_set(folder, name, labels="true slow fast", series=24):
    """Write sine waves with one or three periods, in noise, as a training and a test file."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for part in ("TRAIN", "TEST"):
        lines = []
        for number in range(series):
            periods, label = ((1, "slow"), (3, "fast"))[number % 2]
            wave = np.sin(np.arange(40) * 2 * np.pi * periods / 40) + generator.normal(scale=0.05, size=40)
            lines.append(",".join(f"{value:.4f}" for value in wave) + f":{label}\n")
        (folder / f"{name}_{part}.ts").write_text(HEADER.format(labels) + "".join(lines))


def keep(path, **results):
    """Write results as the benchmark keeps them: method = {set: (accuracies of the seeds, CPU seconds)}."""
    with path.open("w") as file:
        for method, sets in results.items():
            for name, (accuracies, cpu) in sets.items():
                for seed, accuracy in enumerate(accuracies, 1):
                    scores = {"accuracy": accuracy, "balanced": accuracy, "cpu": cpu}
                    file.write(json.dumps({"method": method, "set": name, "seed": seed, **scores}) + "\n")


def cells(text, first):
    """Return the cells of the table line that begins with this cell."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_run_with_defaults_is_measured_once(program, tmp_path, capsys, monkeypatch):
    write_set(tmp_path / "sets/Waves", "Waves")
    arguments = [str(tmp_path / "sets"), "--results", str(tmp_path / "kept.jsonl"), "--seeds", "1", "--methods", QUICK]
    program.main(arguments)
    printed = capsys.readouterr().out
    (kept,) = map(json.loads, (tmp_path / "kept.jsonl").read_text().splitlines())
    assert kept["accuracy"] == kept["balanced"] == 1
    assert kept["cpu"] > 0.1
    assert cells(printed, "Waves")[1].startswith("100.0 / 100.0, ")
    monkeypatch.setattr(program, "measure", None)
    program.main(arguments)
    assert capsys.readouterr().out == printed


def test_sets_of_folders_and_archives(program, tmp_path):
    write_set(tmp_path / "a/Waves", "Waves")
    write_set(tmp_path / "a/Waves", "Waves_eq")
    write_set(tmp_path / "a/Amounts", "Amounts", labels="false")
    write_set(tmp_path / "b/other-folder", "Others")
    write_set(tmp_path / "b/again", "Waves")
    with tarfile.open(tmp_path / "b.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "b", "b")
    found = program.find_sets([str(tmp_path / "a"), str(tmp_path / "b.tar.xz")], tmp_path / "unpacked")
    assert list(found) == ["Others", "Waves"]
    assert found["Waves"] == tmp_path / "a/Waves"
    assert (found["Others"] / "Others_TEST.ts").exists()


def test_no_sets(program, tmp_path):
    with pytest.raises(SystemExit, match="class labels"):
        program.find_sets([str(tmp_path)], tmp_path)


def test_the_summary(program, tmp_path, capsys):
    for name in ("A", "B"):
        write_set(tmp_path / "sets" / name, name)
    kept = tmp_path / "kept.jsonl"
    keep(
        kept,
        rcdp={"A": ([0.8, 1.0], 4.0), "B": ([0.5, 0.5], 9.0)},
        minirocket={"A": ([0.9, 0.9], 2.0), "B": ([0.7, 0.7], 1.0)},
        dtw={"A": ([0.6], 1.0), "B": ([0.7], 1.0)},
    )
    methods = ["rcdp", "minirocket", "dtw"]
    program.main([str(tmp_path / "sets"), "--results", str(kept), "--seeds", "2", "--methods", *methods])
    printed = capsys.readouterr().out
    assert cells(printed, "A")[1:] == ["90.0 / 90.0, 4.0 s", "90.0 / 90.0, 2.0 s", "60.0 / 60.0, 1.0 s"]
    # Ranks: 1.5 and 3 of rcdp, 1.5 and 1.5 of MiniRocket, 3 and 1.5 of DTW.
    assert cells(printed, "rcdp")[1:] == ["2", "70.00", "70.00", "2.25", "6.5", "1", "B (-20.0)", "4.24, 4.33"]
    assert cells(printed, "minirocket")[1:] == ["2", "80.00", "80.00", "1.50", "1.5", "-", "-", "-"]
    assert cells(printed, "dtw")[1:] == ["2", "65.00", "65.00", "2.25", "1.0", "1", "A (-30.0)", "0.71, 0.67"]


def test_what_is_missing_is_said_and_does_not_count(program, tmp_path, capsys):
    for name in ("A", "B"):
        write_set(tmp_path / "sets" / name, name)
    kept = tmp_path / "kept.jsonl"
    keep(kept, rcdp={"A": ([0.8, 0.8], 4.0)}, minirocket={"A": ([0.9, 0.9], 2.0), "B": ([0.7, 0.7], 1.0)})
    with kept.open("a") as file:
        file.write(json.dumps({"method": "rcdp", "set": "B", "seed": 1, "missing": "exit code 2", "cpu": 1.0}) + "\n")
    # The set that failed by the first seed is not measured by the second.
    arguments = [str(tmp_path / "sets"), "--results", str(kept), "--seeds", "2", "--methods", "rcdp", "minirocket"]
    program.main(arguments)
    printed = capsys.readouterr().out
    assert cells(printed, "B")[1] == "-"
    assert cells(printed, "rcdp")[1:3] == ["1", "80.00"]
    assert "missing: rcdp, B, seed 1: exit code 2" in printed


def test_processes_are_limited_and_their_children_counted(program):
    code, seconds, _ = program.run_limited([sys.executable, "-c", "while True: pass"], 1)
    assert code != 0
    # The kernel enforces the limit by its own count, which may be ahead of the exact one by some ticks.
    assert seconds >= 0.5
    assert "more than 1 CPU" in program._outcome(code, seconds, "", 1, dict)["missing"]
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    child = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {busy!r}])"
    code, seconds, output = program.run_limited([sys.executable, "-c", child], 20)
    assert (code, output) == (0, "begun\n")
    assert seconds >= 0.5


def test_rivals_need_their_interpreter(program, tmp_path):
    write_set(tmp_path / "Waves", "Waves")
    with pytest.raises(SystemExit, match="--rivals-python"):
        program.main([str(tmp_path), "--results", str(tmp_path / "kept.jsonl"), "--methods", "minirocket"])

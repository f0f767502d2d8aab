"""The benchmark of tables: which files it reads, its rivals, and the table that it prints."""

from __future__ import annotations

import csv
import json
import sys
import tarfile

import numpy as np
import pytest
from launch import REPOSITORY

# No longer than the import: other modules there have names of packages of the tests.
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import tables

sys.path.remove(str(REPOSITORY / "benchmarks"))


@pytest.fixture
def folder(tmp_path):
    """Two tables of three text classes, one with a class of two training rows; one without a test part."""
    generator = np.random.default_rng(0)
    for name, counts in (("even", (20, 20, 20)), ("rare", (30, 12, 2)), ("untested", (9, 9, 9))):
        for part in ("train", "test")[: 1 if name == "untested" else 2]:
            with (tmp_path / f"{name}_{part}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["f0", "f1", "label"])
                for label, count in enumerate(counts):
                    for row in generator.normal(3 * label, 1, (count, 2)):
                        writer.writerow([*map(repr, map(float, row)), f"class {label}"])
    return tmp_path


@pytest.mark.parametrize("packed", [False, True])
def test_tables_with_a_test_part_are_found(folder, packed, tmp_path_factory):
    path, unpacked = folder, tmp_path_factory.mktemp("unpacked")
    if packed:
        path = unpacked.with_suffix(".tar.xz")
        with tarfile.open(path, "w:xz") as archive:
            archive.add(folder, "tables")
    assert list(tables.find_tables(path, unpacked)) == ["even", "rare"]
    with pytest.raises(SystemExit, match=r"no NAME_train\.csv"):
        tables.find_tables(unpacked / "nothing", unpacked)


@pytest.mark.parametrize("method", tables.RIVALS)
def test_every_rival_reads_text_labels_and_rare_classes(method, folder):
    found = tables.run_rival(method, folder / "rare_train.csv", 1)
    assert set(found) == set(tables.MEASURES)
    assert found["accuracy"] > 0.6


def test_what_is_measured_is_kept_and_printed(folder, monkeypatch, capsys):
    rounds = []

    def measure(method, train, seed, limit):
        rounds.append((method, train.name, seed))
        return {"accuracy": 0.5 + seed / 10, "balanced": 0.25, "macro_f1": 0.125, "cpu": 2.0 * seed}

    monkeypatch.setattr(tables, "measure", measure)
    command = ["tables.py", str(folder), "--results", str(folder / "kept.jsonl"), "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", [*command, "--methods", "rcdp", "logistic"])
    tables.main()
    # Logistic regression draws nothing: one seed.
    assert len(rounds) == 2 * 2 + 2
    tables.main()
    assert len(rounds) == 6
    lines = [json.loads(line) for line in (folder / "kept.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    printed = capsys.readouterr().out.splitlines()[:6]
    assert printed == [
        "| accuracy / balanced accuracy / macro F1, % | rcdp | logistic |",
        "|---|---|---|",
        "| even | 65.0 / 25.0 / 12.5 | 60.0 / 25.0 / 12.5 |",
        "| rare | 65.0 / 25.0 / 12.5 | 60.0 / 25.0 / 12.5 |",
        "| **mean** | 65.0 / 25.0 / 12.5 | 60.0 / 25.0 / 12.5 |",
        "| CPU seconds, mean | 3.0 | 2.0 |",
    ]

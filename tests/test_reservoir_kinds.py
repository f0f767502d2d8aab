"""benchmarks/reservoir_kinds.py: what it reads, measures, keeps and prints."""

from __future__ import annotations

import importlib
import json
import sys

import numpy as np
import pytest
from launch import REPOSITORY
from test_series_benchmark import write_set


@pytest.fixture(scope="module")
def program():
    """Return the program that makes the table of docs/networks-results.md."""
    sys.path.insert(0, str(REPOSITORY / "benchmarks"))
    try:
        return importlib.import_module("reservoir_kinds")
    finally:
        sys.path.pop(0)


def test_every_kind_gives_finite_features_of_every_series(program, tmp_path):
    write_set(tmp_path, "Waves", series=8)
    series = program.read(tmp_path, "Waves")
    assert series.u.shape == (16, 40, 2)
    np.testing.assert_allclose(series.u[:8].std(axis=(0, 1)), 1, atol=0.02)
    for kind in program.KINDS:
        found = program.measure(kind, series, 60, 1)
        assert 0 <= found["accuracy"] <= 1
        assert kind == "no reservoir" or 220 <= found["features"] <= 260, kind


def test_results_are_kept_and_tabled(program, tmp_path, monkeypatch, capsys):
    write_set(tmp_path / "sets", "Waves", series=8)
    results = tmp_path / "kinds.jsonl"
    command = ["kinds", str(tmp_path / "sets"), "--results", str(results), "--nodes", "12", "--seeds", "1", "--kinds"]
    monkeypatch.setattr(sys, "argv", [*command, "no reservoir", "diagonal"])
    program.main()
    assert "| diagonal |" in capsys.readouterr().out
    first = [json.loads(line) for line in results.read_text().splitlines()]
    assert [one["kind"] for one in first] == ["no reservoir", "diagonal"]
    program.main()
    assert len(results.read_text().splitlines()) == 2

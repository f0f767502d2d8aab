"""Comparisons on real ranks: the same bytes for any number of them, and after kill -9."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch import REPOSITORY, rcdp, run_ranks
from whole_runs import flags

from rcdp_hpc.comparison.results import FILE, read_comparison, read_timings

CHEAP = "comparison.cheap_methods:"
SETTINGS = flags(
    "data.class_keep_fractions=[]", "data.max_samples=300", "data.balance=none", "data.shards=1",
    "search.population=2", "search.generations=2", "compare.seeds=1,2",
)  # fmt: skip
ENVIRONMENT = {"PYTHONPATH": f"{REPOSITORY / 'tests'}:{REPOSITORY}"}


def compare(out: Path, ranks: int, *methods: str, environment: dict[str, str] | None = None, more: tuple = ()):
    named = f"compare.methods={','.join(CHEAP + name for name in methods)}"
    command = rcdp("compare", "digits", "--out", str(out), *SETTINGS, *flags(named, *more), "--quiet")
    return run_ranks(ranks, command, env=ENVIRONMENT | (environment or {}))


@pytest.mark.mpi
def test_kill_9_in_a_cell_and_three_ranks_give_the_same_bytes(tmp_path):
    """A process is killed in the third cell and started again; three ranks do the same without a kill."""
    environment, killed = {"KILLED": str(tmp_path / "mark")}, tmp_path / "killed"
    first = compare(killed, 0, "KilledOnce", "Means", environment=environment)
    assert first.returncode == -9, first.stdout
    kept = killed / "cells/comparison.cheap_methods.Means-seed-1/cell.json"
    before = kept.stat().st_mtime_ns
    for folder, ranks in (("killed", 0), ("ranks", 3)):
        done = compare(tmp_path / folder, ranks, "KilledOnce", "Means", environment=environment)
        assert done.returncode == 0, done.stdout
    assert kept.stat().st_mtime_ns == before
    assert (killed / FILE).read_bytes() == (tmp_path / "ranks" / FILE).read_bytes()
    assert {cell.ranks for cell in read_timings(tmp_path / "ranks").cells.values()} == {1}
    assert not list((tmp_path / "ranks").glob(".queue-*"))


@pytest.mark.mpi
def test_groups_of_ranks_share_a_cell_and_a_failed_one_is_reported_once(tmp_path):
    done = compare(tmp_path, 3, "Search", "FailsWithSeed2", more=("compare.group_ranks=0",))
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("1 of 4 cells failed") == 1
    assert {cell.ranks for cell in read_timings(tmp_path).cells.values()} == {3}
    assert [cell.seed for cell in read_comparison(tmp_path).failed] == [2]

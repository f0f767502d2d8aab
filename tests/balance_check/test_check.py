"""Whole checks: the record, the page, refusals, and any number of ranks."""

from __future__ import annotations

import json

import numpy as np
import pytest
from balance_check.made_check import config_for, rows_of, write_rows
from launch import rcdp, run_ranks

from rcdp_hpc.balance_check.check import balance_check
from rcdp_hpc.balance_check.measures import refuse_undefined
from rcdp_hpc.balance_check.output import FILE, PAGE, table
from rcdp_hpc.cli import main
from rcdp_hpc.config.choices.check_methods import CHECK_METHODS
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.digests import read_sealed

SETTINGS = (
    "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=16", "training.threads=1",
    "training.device=cpu", "readout.ridge_penalties=[0.001,0.01,0.1]",
)  # fmt: skip


def words(data, out, *more: str) -> list[str]:
    values = (f"data.path={data}", "data.source=npz", *SETTINGS)
    flags = [part for value in values for part in ("--set", value)]
    return ["balance-check", "table", "--out", str(out), *flags, *more]


def test_the_command_writes_a_record_and_a_page_and_says_what_to_set(tmp_path, capsys):
    data = write_rows(tmp_path / "rows.npz", (400, 60, 30), apart=0.9)
    assert main([*words(data, tmp_path / "out"), "--quiet"]) == 0
    printed = capsys.readouterr().out
    record = read_sealed(tmp_path / "out" / FILE)
    assert [one["name"] for one in record["methods"]] == CHECK_METHODS.names
    assert printed.strip().endswith(record["verdict"]["sentence"])
    assert all(line in printed for line in table(record))
    assert record["verdict"]["matters"]
    assert record["verdict"]["set"]["data.balance"] == "none"
    assert record["data"]["rows"] == sum(record["data"]["counts"]) == 392
    assert record["settings"]["sums_by_class"] is True
    assert record["methods"][0]["ece"] < 0.06
    page = (tmp_path / "out" / PAGE).read_text()
    assert "random_under" in page
    assert "This section could not be written" not in page


def test_small_classes_and_what_is_left_out_are_named(tmp_path):
    data = write_rows(tmp_path / "rows.npz", (60, 30, 4))
    record = balance_check(config_for(data, run={"progress": False}), tmp_path / "out", folds=4, names=("smote",))
    assert [one["name"] for one in record["methods"]] == ["none", "smote"]
    assert any("Absent from some folds" in note and "2 (3)" in note for note in record["notes"])
    assert record["settings"]["sums_by_class"] is False or record["settings"]["features"] == 20
    folds = np.array(record["data"]["fold_counts"])
    assert (folds[:, 2] == 0).any()
    assert all(np.isfinite(value["interval"]).all() for value in record["methods"][1]["differences"].values())


def test_under_sampling_of_which_a_fold_holds_out_all_is_left_out(tmp_path):
    config = config_for(write_rows(tmp_path / "rows.npz", (125, 1)), run={"progress": False})
    record = balance_check(config, tmp_path / "out", names=("random_under", "class_weights"))
    assert record["data"]["fold_counts"] == [[20, 1], *[[20, 0]] * 4]
    assert [one["name"] for one in record["methods"]] == ["none", "class_weights"]
    reason = "the smallest class has so few rows that fold 1 holds out all that are left"
    assert table(record)[-1] == f"random_under is left out: {reason}."


def test_a_criterion_of_a_class_without_rows_is_refused():
    with pytest.raises(InputError, match=r"--criterion recall:b: .* class b has no samples"):
        refuse_undefined("recall:b", np.array([0, 0, 2]), ["a", "b", "c"])
    refuse_undefined("worst_recall", np.array([0, 0, 2]), ["a", "b", "c"])


def test_groups_stay_together(tmp_path):
    data = write_rows(tmp_path / "rows.npz", (60, 30))
    arrays = dict(np.load(data))
    patients = np.arange(90) // 3
    np.savez(data, **arrays, patient=patients)
    keys = {"source": "npz", "path": str(data), "kind": "table", "group_name": "patient", "standardize": "none"}
    rows = rows_of(config_for(data, data=keys), folds=3)
    place = {tuple(row): patient for row, patient in zip(arrays["x"].tolist(), patients, strict=True)}
    found = np.array([place[tuple(row)] for row in np.asarray(rows.source.train.x).tolist()])
    assert rows.grouped
    assert all(len(np.unique(rows.folds[found == patient])) == 1 for patient in np.unique(found))


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ({"extractor": {"kind": "convolution"}}, {}, "is trained by gradient"),
        ({}, {"folds": 1}, "at least 2 folds"),
        ({}, {"folds": 2000}, "--folds = 2000"),
        ({}, {"criterion": "recall:x"}, "there is no class 'x'"),
        ({}, {"criterion": "brier"}, "decides by answers"),
    ],
)
def test_what_cannot_be_checked_is_refused(tmp_path, settings, options, message):
    data = write_rows(tmp_path / "rows.npz")
    with pytest.raises(InputError, match=message):
        balance_check(config_for(data, **settings), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.mpi
def test_two_ranks_find_the_numbers_of_one(tmp_path):
    data = write_rows(tmp_path / "rows.npz")
    for ranks, folder in ((0, "one"), (2, "two")):
        done = run_ranks(ranks, rcdp(*words(data, tmp_path / folder), "--quiet"))
        assert done.returncode == 0, done.stdout
    one, two = (json.loads((tmp_path / folder / FILE).read_text()) for folder in ("one", "two"))
    assert one["sha256"] == two["sha256"]
    assert two["timing"]["ranks"] == 2

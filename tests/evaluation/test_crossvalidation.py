"""The summary of folds, also for more classes than a summary has a complete matrix for."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.evaluation import confusion as report
from rcdp_hpc.evaluation import drawing
from rcdp_hpc.evaluation.crossvalidation import summarise, table
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.rundir import RunDirectory


def test_boosted_trees_of_a_table_have_a_mean_too(tmp_path):
    run, names = RunDirectory(tmp_path), ["a", "b"]
    for fold, accuracy in ((1, 0.5), (2, 0.9)):
        run.fold(fold).report.mkdir(parents=True)
        test = report.result_of_test(np.eye(2, dtype=np.int64), names)
        test["trees"] = {"accuracy": accuracy, "macro_f1": accuracy / 2}
        write_sealed(
            run.fold(fold).report / "summary.json", {"test": test, "classes": names, "seconds": {"train": 1.0}}
        )
    found = summarise(run, load_config("digits", ["data.folds=2"]))
    assert found["trees"] == pytest.approx({"accuracy": 0.7, "macro_f1": 0.35})
    trees = next(line for line in table(found) if "trees" in line)
    assert trees == "boosted trees, mean  70.00 %    0.3500"
    assert table(found)[1].index("%") == trees.index("%")


@pytest.mark.parametrize("classes", [3, 400])
def test_every_sample_is_counted_once_and_a_failed_picture_is_not_an_error(tmp_path, classes, monkeypatch):
    run, names = RunDirectory(tmp_path), [f"class {number}" for number in range(classes)]
    whole = np.zeros((classes, classes), np.int64)
    monkeypatch.setattr("rcdp_hpc.model.criteria.bootstrap.resamples_within", lambda *_: 2)
    for fold in (1, 2):
        matrix = np.random.default_rng(fold).integers(0, 3, (classes, classes))
        matrix[1] = 0  # a class that no fold has in its test
        folder = run.fold(fold).report
        folder.mkdir(parents=True)
        report.write_cells(matrix, folder)
        test = report.result_of_test(matrix, names)
        write_sealed(folder / "summary.json", {"test": test, "classes": names, "seconds": {"train": 1.0}})
        whole += matrix
    monkeypatch.setattr("rcdp_hpc.evaluation.pictures.draw_folds", lambda *_: 1 / 0)
    found = summarise(run, load_config("digits", ["data.folds=2"]))
    kept = read_sealed(run.report / "summary.json")
    assert kept == json.loads(json.dumps(found))
    np.testing.assert_array_equal(report.read_confusion(kept["confusion"], run.report), whole)
    assert kept["absent"] == ["class 1"]
    assert kept["worst_confusions"] == report.worst_confusions(whole, names)
    assert max(map(len, table(found))) <= 80
    assert not (run.report / "folds.png").exists()
    monkeypatch.undo()
    drawing.draw_folds_of(run, {"accuracy": [0.5, 0.6]})
    assert (run.report / "folds.png").exists()


def test_a_class_absent_from_a_fold_is_named_and_what_it_leaves_undefined_is_not_0(tmp_path):
    run, names = RunDirectory(tmp_path), ["a", "b", "c"]
    for fold, matrix in ((1, [[5, 1, 0], [2, 4, 0], [0, 1, 3]]), (2, [[4, 2, 0], [0] * 3, [0] * 3])):
        folder = run.fold(fold).report
        folder.mkdir(parents=True)
        test = report.result_of_test(np.array(matrix, np.int64), names)
        write_sealed(folder / "summary.json", {"test": test, "classes": names, "seconds": {"train": 1.0}})
    found = summarise(run, load_config("digits", ["data.folds=2"]))
    assert found["results"][1]["absent"] == ["b", "c"]
    assert found["results"][1]["undefined"] == dict.fromkeys(("mcc", "kappa"), "all samples are of class a")
    assert found["undefined_folds"] == {"mcc": [2], "kappa": [2]}
    assert found["mean"]["mcc"] == found["results"][0]["mcc"]
    assert found["deviation"]["mcc"] is None
    assert found["mean"]["balanced_accuracy"] == pytest.approx((found["results"][0]["balanced_accuracy"] + 4 / 6) / 2)
    lines = table(found)
    assert any(line.startswith("Cohen's kappa") and line.endswith("-  (undefined in fold 2)") for line in lines)
    assert lines[-1] == "fold 2: 2 classes without test samples: b, c"

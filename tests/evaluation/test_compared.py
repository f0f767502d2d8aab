"""Two runs on the same test samples."""

from __future__ import annotations

import csv
import json

import pytest
from made_runs import Made, make_run
from scipy.stats import binomtest

from rcdp_hpc.data.shards.index import INDEX_NAME
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.evaluation.compared import compare_with_run, compared_lines
from rcdp_hpc.evaluation.report.write import write_report
from rcdp_hpc.runtime.digests import read_sealed, write_sealed

CLASSES = ["cat"] * 12 + ["dog"] * 6 + ["frog"] * 2


def predict(run, predicted, rows=range(20), classes=CLASSES):
    """Write the predictions of a run."""
    with (run.report / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["part", "row", "class", "predicted", "probability", "correct"])
        for row, true, answer in zip(rows, classes, predicted, strict=True):
            writer.writerow(["test", row, true, answer, 0.5, "yes" if true == answer else "no"])


@pytest.fixture
def runs(tmp_path):
    made = [make_run(tmp_path / name, Made(candidates=0)) for name in ("one", "two")]
    predict(made[0], CLASSES)
    predict(made[1], ["dog"] * 7 + CLASSES[7:])
    return made


def test_the_difference_is_recorded_and_shown(runs):
    one, two = runs
    before = read_sealed(one.report / "summary.json")
    record = compare_with_run(one, two)
    assert (record["only_model"], record["only_other"]) == (7, 0)
    assert record["p_value"] == binomtest(7, 7).pvalue
    assert record["differences"]["balanced_accuracy"]["value"] == pytest.approx(7 / 12 / 3)
    low, high = record["differences"]["accuracy"]["interval"]
    assert 0 < low < 7 / 20 < high
    text = " ".join(compared_lines(record))
    assert "7 samples are recognised by the model only, 0 by the other only: the model is more accurate" in text
    compare_with_run(one, two)  # takes the place of the first
    assert read_sealed(one.report / "summary.json") == {**before, "compared": [record]}
    page = write_report(one)[0].read_text()
    assert f"The model minus {two.path}, on the same 20 samples" in page
    assert "+0.350" in page


def _other_source(run):
    path = run.shards / INDEX_NAME
    index = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    write_sealed(path, {**index, "source": {**index["source"], "sha256": "0" * 64}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_source, "they were prepared from different data"),
        (lambda run: predict(run, CLASSES, range(5, 25)), "15 of 20 and 20 test samples are the same"),
        (lambda run: predict(run, CLASSES, classes=CLASSES[::-1]), "the same samples have other classes"),
        (lambda run: predict(run, ["horse"] * 20), r"predicts the class 'horse', which .*one does not have"),
        (lambda run: (run.report / "predictions.csv").unlink(), r"two is not evaluated yet"),
    ],
)
def test_other_samples_are_refused(runs, change, message):
    change(runs[1])
    with pytest.raises(InputError, match=message):
        compare_with_run(*runs)


def test_damaged_predictions_are_refused(runs):
    (runs[1].report / "predictions.csv").write_text("part,row\ntest,0\n")
    with pytest.raises(DataDamagedError, match="not the predictions of a test"):
        compare_with_run(*runs)

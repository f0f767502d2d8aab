"""The page of a report: well formed, self-contained, escaped, small; its content against known values."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from made_runs import Made, log_lines, make_run
from page import Page
from scipy.stats import norm

from rcdp_hpc.evaluation.report.criteria import criteria_of_folds
from rcdp_hpc.evaluation.report.importance import influences
from rcdp_hpc.evaluation.report.write import try_to_write_report, write_report
from rcdp_hpc.model.intervals import wilson
from rcdp_hpc.runtime.digests import write_sealed, write_sealed_lines
from rcdp_hpc.runtime.rundir import RunDirectory

SECTIONS = ("result", "asked", "data", "search", "training", "classes", "confusion", "baselines", "time", "digests",
            "warnings", "next")  # fmt: skip
HOSTILE = ["<script>alert(1)</script>", "a\"b' onload=x", "naïve 猫 مرحبا", "a\u202eb\x1b[2J\nc", "&amp;", "x" * 5000]


def page_of(run: RunDirectory) -> Page:
    path, problems = write_report(run)
    assert problems == []
    page = Page(path)
    assert page.faults == []
    return page


def test_every_section_of_a_finished_run_is_there_in_order(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    places = [page.source.index(f'<section id="{name}"') for name in SECTIONS]
    assert places == sorted(places)
    assert "could not be written" not in page.text
    assert page.links == []


def test_result_classes_and_baselines_have_the_values_of_the_test(tmp_path):
    made = Made()
    page = page_of(make_run(tmp_path / "run", made))
    matrix = made.confusion()
    correct, samples = int(np.trace(matrix)), int(matrix.sum())
    assert f"The model recognises {correct} of {samples} test samples" in page.text
    low, high = wilson(20, 25)
    assert page.cells("cat")[0] == "25"  # the first table with this class is that of the data
    of_classes = next(row for row in page.rows if row[0] == "cat" and "%" in row[2])
    assert of_classes[1:4] == ["25", "80.0 %", f"{100 * low:.1f} to {100 * high:.1f} %"]
    assert page.cells("this model")[0] == str(correct)
    assert page.cells("always the most frequent class")[0] == str(matrix.sum(1).max())


def test_the_wilson_interval_solves_its_equation():
    """|p - share| = z sqrt(p (1 - p) / n) at both ends, z the 97.5 % quantile of the normal distribution."""
    for successes, trials in ((8, 10), (1, 3), (351, 359)):
        for end in wilson(successes, trials):
            error = norm.ppf(0.975) * math.sqrt(end * (1 - end) / trials)
            assert abs(end - successes / trials) == pytest.approx(error)
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    assert all(map(math.isnan, wilson(0, 0)))


def test_keys_that_differ_from_their_defaults_are_listed(tmp_path):
    page = page_of(make_run(tmp_path / "run", extra=["training.epochs=7", "readout.dropout=0.25"]))
    assert page.cells("training.epochs") == ["7", "250"]
    assert page.cells("readout.dropout") == ["0.25", "0"]
    assert page.cells("search.space.density") == ["{ low = 0.01, high = 0.3 }", "-"]
    assert '<tr class="changed"><th scope="row">training.epochs</th>' in page.source
    assert '<tr><th scope="row">training.precision</th>' in page.source
    assert page.cells("preparation, search, training, evaluation")[0] == "rcdp run digits"


def test_synthetic_rows_are_counted_by_class(tmp_path):
    page = page_of(make_run(tmp_path / "run"))
    # source, dropped, before, after, synthetic, validation, test
    assert page.cells("cat") == ["25", "0", "5", "19", "14", "5", "10"]
    assert page.cells("all")[4] == str(3 * 19 - 5 - 12 - 19)


def test_the_search_names_what_mattered_and_a_winner_on_a_bound(tmp_path):
    page = page_of(make_run(tmp_path / "run", Made(candidates=60)))
    winner, searched, note, importance, correlation = page.cells("density")
    assert searched == "0.01 to 0.3"
    assert int(importance.removesuffix(" %")) > 90
    assert float(correlation) < -0.95
    assert "3: no cycle <b>" in page.text
    on_bound = float(winner) < 0.0129
    assert (note == "at the low bound") == on_bound
    assert ("is on the bound search.space.density.low = 0.01" in page.text) == on_bound


def test_importance_finds_a_value_that_correlation_does_not():
    generator = np.random.default_rng(3)
    lines = []
    for _ in range(200):
        values = {"bent": generator.uniform(-1, 1), "idle": generator.uniform(), "word": generator.choice(["a", "b"])}
        lines.append({"values": values, "fitness": -(values["bent"] ** 2), "reused": False})
    lines.append({"values": lines[0]["values"], "fitness": None, "reused": False})
    found, explained = influences(lines)
    assert [one.name for one in found] == ["bent", "idle", "word"]
    assert explained > 0.7
    assert found[0].importance > 0.9
    assert abs(found[0].correlation) < 0.3
    assert math.isnan(found[2].correlation)
    few, explained = influences(lines[:10])
    assert all(math.isnan(one.importance) for one in few)
    assert math.isnan(explained)


def test_choices_are_ranked_by_their_best_candidate(tmp_path):
    run = make_run(tmp_path / "run")
    same = {"generation": 1, "accuracy": None, "share": 1.0, "reused": False}
    tried = (("tanh", 1.0), ("relu<", 3.0), ("tanh", 2.0), ("sin", None))
    lines = [{**same, "values": {"activation": name}, "fitness": fitness} for name, fitness in tried]
    write_sealed_lines(run.search / "history.jsonl", lines)
    page = page_of(run)
    assert "Fitness by activation: relu< has the best candidate." in page.names
    assert page.cells("activation")[0] == "relu<"
    assert "accuracy of - on" not in page.text


def test_without_balancing_the_rows_are_drawn_once(tmp_path):
    run = make_run(tmp_path / "run")
    index = json.loads((run.shards / "index.json").read_text())
    train = index["splits"]["train"]
    for entry in index["class_table"]:
        entry["after"] = entry["wanted"] = entry["before"]
    counts = [entry["before"] for entry in index["class_table"]]
    train |= {"class_counts": counts, "rows": sum(counts), "synthetic_counts": [0] * len(counts)}
    train["shards"][0] |= {"rows": sum(counts), "class_counts": counts}
    write_sealed(run.shards / "index.json", {name: value for name, value in index.items() if name != "sha256"})
    page = page_of(run)
    assert "No training row is synthetic (data.balance = 'smote')." in page.text
    assert sum(name.startswith("Training rows by class") for name in page.names) == 1


@pytest.mark.parametrize("classes", [2, 21, 100, 700])
def test_names_are_escaped_and_the_page_stays_small(tmp_path, classes):
    names = [*HOSTILE, *(f"class {number}" for number in range(classes))][:classes]
    made = Made(names, candidates=5000 if classes == 100 else 0, epochs=300, ranks=3)
    run = make_run(tmp_path / "run <b>", made)
    log_lines(
        run, ("WARNING", "<img src=x onerror=alert(1)>"), ("INFO", "not shown"), ("ERROR", "again"), ("ERROR", "again")
    )
    page = page_of(run)
    assert page.size < 2_000_000
    assert "<script" not in page.source
    assert "warning 1970-01-01 00:16:40 UTC: <img src=x onerror=alert(1)>" in page.text
    assert "error, 2 times, last" in page.text
    assert "not shown" not in page.text
    assert HOSTILE[0] in page.text
    if classes > 2:
        assert "naïve 猫 مرحبا" in page.text
        assert "\u202e" not in page.source


def test_nan_and_undefined_scores_are_dashes(tmp_path):
    made = Made(candidates=0, epochs=2)
    run = make_run(tmp_path / "run", made)
    matrix = made.confusion()
    matrix[2] = 0
    matrix[:, 2] = 0
    summary = json.loads((run.report / "summary.json").read_text())
    summary["test"] |= {"confusion": matrix.tolist(), "macro_f1": None}
    write_sealed(run.report / "summary.json", {name: value for name, value in summary.items() if name != "sha256"})
    page = page_of(run)
    assert ["frog", "0", "-", "-", "0", "-", "-", "-"] in page.rows
    assert page.cells("this model")[-1] == "-"
    assert not [cell for row in page.rows for cell in row if cell in ("nan", "nan %", "None")]
    assert "1 class has no test samples" in page.text


def test_no_search_and_no_epochs_are_said(tmp_path):
    page = page_of(make_run(tmp_path / "run", Made(candidates=0, epochs=0)))
    assert "There was no search (search.generations = 0)" in page.text
    assert "The readout was solved, not trained in epochs" in page.text


def test_an_unfinished_run_says_what_is_missing_and_how_to_continue(tmp_path):
    run = make_run(tmp_path / "run")
    for stage, status in (("train", "stopped"), ("evaluate", None)):
        run.state_file(stage).unlink()
        if status:
            run.record_state(stage, status, reason="stopped by SIGUSR1")
    (run.report / "summary.json").unlink()
    page = page_of(run)
    assert "This run is not finished" in page.text
    assert "The training is stopped with a checkpoint: stopped by SIGUSR1" in page.text
    assert "The evaluation is not started." in page.text
    assert f"rcdp train --out={run.path}" in page.text
    assert "The test has no results yet" in page.text
    empty = RunDirectory(tmp_path / "empty")
    empty.record_state("prepare", "running")
    assert "The preparation was killed" in page_of(empty).text


@pytest.mark.parametrize(
    "file", ["shards/index.json", "report/summary.json", "search/history.jsonl", "search/best.toml",
             "train/metrics.jsonl", "state/train.json"]
)  # fmt: skip
def test_a_damaged_file_is_named_and_the_rest_is_shown(tmp_path, file):
    run = make_run(tmp_path / "run")
    path = run.path / file
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.", b"1.", 1) if b"0." in content else content[:-30])
    page_path, problems = write_report(run)
    assert [problem.damaged for problem in problems] == [True]
    page = Page(page_path)
    assert page.faults == []
    assert file in problems[0].message
    assert problems[0].message in page.text
    assert "Digests to check it by" in page.text


def test_records_of_another_version_leave_out_a_section_only(tmp_path, caplog):
    run = make_run(tmp_path / "run")
    write_sealed(run.report / "summary.json", {"test": {"accuracy": 0.5}, "classes": ["a"]})
    run.record_state("train", "done", result={"epochs": "many"})
    path, _ = write_report(run)
    page = Page(path)
    assert page.faults == []
    assert "The files may be of another version of rcdp_hpc. (KeyError: 'correct')" in page.text
    assert "the section 'Result' of the report is left out" in caplog.text
    assert "Data before and after balancing" in page.text


def test_a_cross_validation_of_an_earlier_version_has_the_criteria_that_it_recorded():
    values = {"accuracy": 0.91, "macro_f1": 0.83, "macro_recall": 0.77}
    page = criteria_of_folds({"mean": values, "deviation": dict.fromkeys(values, 0.01)})
    assert "0.91" in page
    assert "0.77" not in page


def test_a_failed_report_does_not_fail_the_run(tmp_path, caplog, monkeypatch):
    run = make_run(tmp_path / "run")
    monkeypatch.setattr("rcdp_hpc.evaluation.report.write.run_page", lambda files: 1 / 0)
    try_to_write_report(run)
    assert "could not be written (ZeroDivisionError" in caplog.text
    monkeypatch.undo()
    (run.search / "history.jsonl").write_text("{}\n")
    try_to_write_report(run)
    assert "the report is incomplete" in caplog.text
    assert (run.report / "index.html").exists()


def test_suggestions_follow_from_the_results(tmp_path):
    run = make_run(tmp_path / "run", Made(epochs=5, ranks=2))
    page = page_of(run)
    assert "1 class has fewer than 30 test samples, so their intervals are wide: cat." in page.text
    assert "The best epoch, 5 of 5, is at the end" in page.text
    assert "--set=training.epochs=10" in page.text
    assert "1 class has at most 7 training rows before balancing: cat." in page.text
    assert "the training accuracy is 10.0 points above" in page.text
    # Of the time of both ranks: 10 + 11 s computing, 1 + 0 s waiting, 1 + 1 s communicating.
    assert "ranks computed 87.5 % of the time, waited 4.2 % and communicated 8.3 %" in page.text
    assert ["0", "10 s", "1 s", "1 s"] in page.rows

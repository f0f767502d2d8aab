"""`rcdp report`, and the reports at the end of runs and cross-validations."""

from __future__ import annotations

import os
import shutil

import pytest
from made_runs import Made, make_run, write_summary
from page import Page

from rcdp_hpc import crossvalidate
from rcdp_hpc.cli import main
from rcdp_hpc.config import load_config
from rcdp_hpc.evaluation.confusion import result_of_test
from rcdp_hpc.evaluation.report.links import report_link
from rcdp_hpc.runtime.command_line import current_command
from rcdp_hpc.runtime.rundir import RunDirectory

QUICK = ("reservoir.nodes=30", "readout.hidden=8", "readout.outputs=8", "training.epochs=2", "data.shards=1",
         "training.baseline=false", "run.progress=false", "reservoir.kernel=dense-fp32")  # fmt: skip


def flags(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def test_a_run_ends_with_a_report_that_names_its_command(tmp_path, capsys):
    out = tmp_path / "run"
    settings = (*QUICK, "search.generations=1", "search.population=2", "search.train_rows=200")
    words = ["run", "digits", "--out", str(out), *flags(*settings)]
    assert main(words) == 0
    assert current_command() is None
    page = Page(out / "report/index.html")
    assert page.faults == []
    assert "The model recognises" in page.text
    assert "is not finished" not in page.text
    assert page.cells("preparation, search, training, evaluation")[0].startswith("rcdp run digits --out")
    assert "The best fitness (1/E) is " in page.text
    for stage in ("prepare", "search", "train", "evaluate"):
        assert RunDirectory(out).state(stage)["command"] == ["rcdp", *words]
    capsys.readouterr()
    assert main(["report", str(out), "--to", str(tmp_path / "sent.html")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'sent.html'}\n"
    assert Page(tmp_path / "sent.html").rows[:20] == page.rows[:20]


def test_a_cross_validation_ends_with_a_report_and_each_fold_has_its_own(tmp_path):
    config = load_config("digits", [*QUICK, "search.generations=0", "data.folds=2", "data.max_samples=400"])
    summary = crossvalidate(config, tmp_path)
    page = Page(tmp_path / "report/index.html")
    assert page.faults == []
    assert page.links == ["../fold-1/report/index.html", "../fold-2/report/index.html"]
    assert all((tmp_path / "report" / link).is_file() for link in page.links)
    assert f"the mean accuracy is {100 * summary['mean']['accuracy']:.2f} %" in page.text
    mean, deviation = (f"{summary[name]['ece']:.{digits}g}" for name, digits in (("mean", 4), ("deviation", 2)))
    assert ["calibration error", mean, deviation, ""] in page.rows
    of_fold = Page(tmp_path / "fold-1/report/index.html")
    assert any(row[0] == "G-mean" and " to " in row[2] for row in of_fold.rows)
    of_classes = [row for row in page.rows if len(row) == 8 and row[0].isdigit() and row[2].endswith("%")]
    assert sum(int(row[1]) for row in of_classes) == sum(one["samples"] for one in summary["results"])
    shutil.rmtree(tmp_path / "fold-2")
    assert main(["report", str(tmp_path)]) == 0
    assert "1 fold not finished: this result is incomplete." in Page(tmp_path / "report/index.html").text


def test_the_tasks_of_a_job_array_have_one_page(tmp_path):
    for number in (1, 2, 3):
        make_run(tmp_path / f"seed-{number}", Made(seed=number, candidates=0))
    assert main(["report", str(tmp_path)]) == 0
    page = Page(tmp_path / "report/index.html")
    assert page.faults == []
    assert "Over 3 of 3 tasks the mean accuracy is" in page.text
    # Their tests may have samples in common, so they are not added.
    assert 'id="classes"' not in page.source


def test_folds_add_up_their_tests(tmp_path):
    for number in (1, 2):
        made = Made(seed=number + 4, candidates=0)
        run = make_run(tmp_path / f"fold-{number}", made)
        write_summary(run, made, result_of_test(made.confusion(), made.classes))
    assert main(["report", str(tmp_path)]) == 0
    page = Page(tmp_path / "report/index.html")
    together = Made(seed=5).confusion() + Made(seed=6).confusion()
    row = next(row for row in page.rows if row[0] == "dog" and len(row) == 8 and "%" in row[2])
    assert row[1] == str(together[1].sum())


@pytest.mark.parametrize("damaged", [True, False])
def test_exit_code_3_if_a_file_is_damaged_and_the_page_is_written_anyway(tmp_path, damaged):
    run = make_run(tmp_path / "run")
    if damaged:
        (run.train / "metrics.jsonl").write_text('{"epoch": 0}\n')
    assert main(["report", str(run.path)]) == (3 if damaged else 0)
    assert ("line 1 was cut short or altered" in Page(run.report / "index.html").text) == damaged


@pytest.mark.parametrize("kind", ["missing", "a file", "another folder", "a folder of runs", "another ending"])
def test_what_is_not_a_run_is_refused(tmp_path, kind, capsys):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").touch()
    make_run(tmp_path / "run", Made(candidates=0, epochs=1))
    words, message = {
        "missing": ([str(tmp_path / "no")], "no such run directory"),
        "a file": ([str(folder / "file")], "a file; expected a run directory"),
        "another folder": ([str(folder)], "not a run directory"),
        "a folder of runs": ([str(tmp_path)], f"rcdp report {tmp_path / 'run'}"),
        "another ending": ([str(tmp_path / "run"), "--to", "report.pdf"], "ends in .html or .htm"),
    }[kind]
    assert main(["report", *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(folder.glob("report"))


def test_a_folder_whose_name_is_not_utf8_has_a_report(tmp_path):
    folder = tmp_path / os.fsdecode(b"run \xff<b>")
    make_run(folder / "seed-1", Made(candidates=0))
    assert main(["report", str(folder / "seed-1")]) == 0
    assert main(["report", str(folder), "--to", str(tmp_path / "page.html")]) == 0
    page = Page(tmp_path / "page.html")
    assert page.faults == []
    assert page.links == ["run%20%FF%3Cb%3E/seed-1/report/index.html"]


def test_links_are_relative_and_quoted(tmp_path):
    report = tmp_path / "cells/a b#1/report/index.html"
    report.parent.mkdir(parents=True)
    report.touch()
    link = report_link(tmp_path / "report/index.html", report, "<one>")
    assert link == '<a href="../cells/a%20b%231/report/index.html">&lt;one&gt;</a>'
    assert report_link(tmp_path / "index.html", tmp_path / "nothing.html", "<one>") == "&lt;one&gt;"

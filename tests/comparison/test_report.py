"""The report of a comparison: its tables against known values, its links, and comparisons that have not ended."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from comparison.made_comparison import COMPARED, FAILED, make_comparison, write_plan
from page import Page

from rcdp_hpc.cli import main
from rcdp_hpc.comparison.methods.base import Outcome
from rcdp_hpc.comparison.plan import make_plan
from rcdp_hpc.comparison.records import CellRecord, write_record
from rcdp_hpc.comparison.report.figures import best_accuracy_so_far
from rcdp_hpc.comparison.report.page import sentences, try_to_write_comparison_report
from rcdp_hpc.comparison.results import FILE, Comparison, Summary
from rcdp_hpc.config import load_config
from rcdp_hpc.evaluation.report.write import write_report
from rcdp_hpc.runtime.rundir import RunDirectory


def page_of(folder: Path) -> Page:
    assert main(["report", str(folder)]) == 0
    page = Page(folder / "report/index.html")
    assert page.faults == []
    return page


def test_tables_have_the_values_of_the_comparison(tmp_path):
    make_comparison(tmp_path)
    page = page_of(tmp_path)
    rows = {row[0]: row[1:] for row in page.rows if len(row) == 9}
    # Means and sample standard deviations of 90 and 94 %, 80 and 86 %.
    assert rows["mfo"][:2] == ["2", "92.00 ± 2.83"]
    assert rows["ridge"][:2] == ["2", "83.00 ± 4.24"]
    assert rows["<b>"][:2] == ["1 of 2", "50.00"]
    assert rows["ridge"][-1] == "0.1409"
    assert "mfo has the highest mean test accuracy, 92.00 ± 2.83 % (2 of 2 cells), followed by ridge with" in page.text
    assert "(p = 0.1409, corrected by Holm)" in page.text
    assert ["ridge", "20.0", "10.0", "30.0", "90"] in page.rows
    assert ["ridge", "+9.00 points", "2", "paired t-test", "9", "0.0704", "0.1409", ""] in page.rows
    assert "seed-1: prepare 1.5 s" in page.text
    assert page.cells("compare.seeds") == ["[1, 2]", "[]"]


def test_failed_and_left_out_are_named_with_their_reasons(tmp_path):
    make_comparison(tmp_path)
    page = page_of(tmp_path)
    assert "1 of 6 cells failed" in page.text
    assert f"{FAILED}: out of memory <i>" in page.text
    assert "wpd-avoa-delm: samples of 1 value have no wavelets" in page.text
    assert page.cells(FAILED)[:2] == ["failed", "-"]


def test_links_lead_to_the_reports_of_cells_that_have_one(tmp_path):
    make_comparison(tmp_path)
    write_report(RunDirectory(tmp_path).cell("mfo-seed-1"))
    page = page_of(tmp_path)
    assert page.links == ["../cells/mfo-seed-1/report/index.html"]
    assert (tmp_path / "report" / page.links[0]).is_file()


def test_figures_state_their_main_facts(tmp_path):
    make_comparison(tmp_path)
    names = page_of(tmp_path).names
    assert names[0] == "Test accuracy by method: mfo has the highest mean, 92.00 %."
    assert names[1].startswith("Convergence of the searches: mfo ends with the highest accuracy")
    assert names[2].startswith("Utilisation of the processor over the time of a cell: ")


def test_a_comparison_that_has_not_ended_lists_its_cells(tmp_path):
    write_plan(tmp_path)
    cells = {cell.name: cell for cell in make_plan(load_config("digits", COMPARED)).cells}
    done = CellRecord("done", outcome=Outcome(validation_accuracy=0.7, test={"accuracy": 0.75}))
    for name, record in (("mfo-seed-1", done), ("ridge-seed-2", CellRecord("failed", "no memory"))):
        write_record(RunDirectory(tmp_path).cell(name), cells[name], record)
    page = page_of(tmp_path)
    assert "This comparison has not ended: 2 of 4 cells have." in page.text
    assert page.cells("mfo-seed-1") == ["done", "75.00 %", "-"]
    assert page.cells("ridge-seed-2") == ["failed", "-", "no memory"]
    assert page.cells("mfo-seed-2") == ["not ended", "-", "-"]
    assert f"rcdp compare --out={tmp_path}" in page.text


@pytest.mark.parametrize("file", [FILE, "timings.json"])
def test_a_damaged_file_is_named(tmp_path, file):
    make_comparison(tmp_path, runs=False)
    path = tmp_path / file
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
    assert main(["report", str(tmp_path)]) == 3
    page = Page(tmp_path / "report/index.html")
    assert page.faults == []
    assert "its checksum does not match its content" in page.text


def test_a_failed_report_does_not_fail_the_comparison(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("rcdp_hpc.comparison.report.page.comparison_page", lambda files: 1 / 0)
    try_to_write_comparison_report(RunDirectory(tmp_path))
    assert "could not be written (ZeroDivisionError" in caplog.text


def test_convergence_follows_the_fitness_not_the_accuracy():
    lines = [
        {"fitness": None, "accuracy": None},
        {"fitness": 1.0, "accuracy": 0.9},
        {"fitness": 0.5, "accuracy": 0.95},
        {"fitness": 2.0, "accuracy": 0.8},
    ]
    curve = best_accuracy_so_far(lines)
    assert math.isnan(curve[0])
    assert curve[1:] == [0.9, 0.9, 0.8]
    assert best_accuracy_so_far(lines[:1]) == []


def test_each_arm_has_its_result() -> None:
    def summary(method: str, arm: str, accuracy: float) -> Summary:
        return Summary(method, arm, "evaluations", 1, 1, [], {"accuracy": accuracy}, {})

    summaries = [summary("mfo", "rows", 0.5), summary("ridge", "rows", 0.6), summary("mfo", "extractor", 0.7)]
    comparison = Comparison(
        {}, [], [], "seeds", ["rows", "extractor"], {"evaluations": {"population": 4, "generations": 3}}, {}, [],
        summaries, [], {},
    )  # fmt: skip

    rows, extractor = sentences(comparison)

    assert rows.startswith("Equal candidate evaluations: 4 x 3; samples as they are: ridge has the highest")
    assert "features of one trained extractor: mfo has the highest mean test accuracy, 70.00 %" in extractor

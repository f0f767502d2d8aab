"""The reliability diagram: bins of the test rows, as a file, a picture and a section of the report."""

from __future__ import annotations

import numpy as np
import pytest
from made_runs import make_run

from rcdp_hpc.evaluation.reliability import FILE, Reliability, read_reliability, write_reliability
from rcdp_hpc.evaluation.report.reliability import reliability
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.runtime.comm.single import SingleProcess

RAW = np.array([[0.9, 0.1], [0.62, 0.38], [0.61, 0.39], [0.2, 0.8]], np.float32)
REPORTED = np.array([[0.99, 0.01], [0.5, 0.5], [0.45, 0.55], [0.1, 0.9]], np.float32)
LABELS = np.array([0, 0, 1, 1])


def content(probabilities: np.ndarray = REPORTED) -> dict:
    found = Reliability()
    for rows in (slice(0, 1), slice(1, 4)):
        found.add(LABELS[rows], Answers(RAW[rows].argmax(1), probabilities[rows], RAW[rows]))
    return found.content(SingleProcess())


def test_bins_have_count_probability_and_accuracy():
    bins = content()
    assert bins["model"]["rows"] == [0] * 9 + [2, 0, 0, 1, 1, 0]
    assert bins["model"]["accuracy"][9] == 0.5
    assert bins["model"]["probability"][9] == pytest.approx(0.615)
    assert bins["model"]["ece"] == pytest.approx((abs(1.23 - 1) + 0.2 + 0.1) / 4, abs=1e-6)
    assert bins["reported"]["ece"] == pytest.approx((0.5 + 0.45 + 0.1 + 0.01) / 4, abs=1e-6)
    assert bins["model"]["accuracy"][0] is None


def test_a_model_that_is_not_calibrated_has_one_kind():
    assert content(RAW).keys() == {"bins", "model"}


def test_the_report_shows_the_counts_of_each_bin(tmp_path):
    run = make_run(tmp_path)
    assert "Evaluate the run again" in str(reliability(RunFiles(run)))
    write_reliability(run.report, content())
    assert read_reliability(run.report) == content()
    text = str(reliability(RunFiles(run)))
    assert "model itself 0.13" in text
    assert "0.60 to 0.67" in text
    (run.report / FILE).write_text("{}")
    files = RunFiles(run)
    assert "Evaluate the run again" in str(reliability(files))
    assert files.problems[0].damaged


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    from rcdp_hpc.evaluation.reliability_picture import draw_reliability

    draw_reliability(content(), tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").stat().st_size > 5000

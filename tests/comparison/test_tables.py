"""Tables, status and use of the processor of a comparison."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import replace

import pytest

from rcdp_hpc.comparison.results import CellResult, CellTiming, Comparison, LeftOut, PairedTest, Summary, Timings
from rcdp_hpc.comparison.tables import csv_text, markdown, score_table, text_lines, time_table
from rcdp_hpc.comparison.utilisation import MOST_SAMPLES, Utilisation
from rcdp_hpc.runtime.comm.single import SingleProcess

MEASURED = {
    "accuracy": 0.9, "macro_f1": 0.8, "balanced_accuracy": 0.85, "validation_accuracy": 0.95, "evaluations": 12,
    "parameters": 340,
}  # fmt: skip
FIRST = CellResult("a-seed-1", "a", "rows", "evaluations", 1, 0, "done", measures=MEASURED)
OTHER = replace(FIRST, name="b|c-seed-1", method="b|c", status="failed", reason="a <b>\nbad file", measures={})
FOUND = Comparison(
    settings={},
    methods=[],
    left_out=[LeftOut("d", "rows", "no images")],
    repeats="seeds",
    arms=["rows"],
    budgets={"evaluations": {"population": 4, "generations": 3}},
    data={"description": "digits"},
    cells=[FIRST, replace(FIRST, name="a-seed-2", seed=2), OTHER, replace(OTHER, name="b|c-seed-2", seed=2)],
    summaries=[
        Summary("a", "rows", "evaluations", 2, 2, [], MEASURED, dict.fromkeys(MEASURED, 0.01)),
        Summary("b|c", "rows", "evaluations", 0, 2, ["b|c-seed-1", "b|c-seed-2"], {}, {}),
        Summary("e", "rows", "evaluations", 1, 2, [], MEASURED, {}),
    ],
    tests=[PairedTest("a", "e", "rows", "evaluations", "paired t-test", 2, 0.1, 3.0, 0.00001, 0.00002)],
    versions={},
)
TIMES = Timings(
    {
        "a-seed-1": CellTiming({"search": 2.0, "train": 3.0}, 5.0, 1, {"mean": 50.0}),
        "a-seed-2": CellTiming({"search": 4.0}, 4.0, 1, {"mean": 70.0}),
    },
    {"seed-1": {"prepare": 1.5}},
)


def test_scores_by_method():
    head, first, failed, last = score_table(FOUND, "evaluations", "rows")
    assert head[:4] == ["method", "cells", "test accuracy %", "macro F1"]
    assert first == ["a", "2", "90.00 ± 1.00", "0.8000 ± 0.0100", "85.00 ± 1.00", "95.00 ± 1.00", "12", "340", "-"]
    assert failed == ["b|c", "0 of 2", "failed", *["-"] * 6]
    # The mean of one of two cells has no deviation.
    assert last[:3] == ["e", "1 of 2", "90.00"]
    assert last[-1] == "< 0.0001"


def test_seconds_are_means_over_the_cells():
    head, first, failed, _ = time_table(FOUND, TIMES, "evaluations", "rows")
    assert head == ["method", "search s", "train s", "total s", "processor %"]
    assert first == ["a", "3.0", "1.5", "4.5", "60"]
    assert failed == ["b|c", *["-"] * 4]


def test_markdown_and_text_have_the_same_notes():
    page, lines = markdown(FOUND, TIMES), text_lines(FOUND, TIMES)
    assert "| b\\|c | 0 of 2 | failed |" in page
    assert "- b\\|c-seed-1 failed: a &lt;b> bad file" in page
    for note in ("d is left out: no images", "once for all methods, seed-1: prepare 1.5 s"):
        assert f"- {note}" in page
        assert note in lines
    assert lines[0] == "equal candidate evaluations: 4 x 3"


def test_csv_has_a_line_for_each_cell():
    rows = list(csv.DictReader(io.StringIO(csv_text(FOUND, TIMES))))
    assert [row["name"] for row in rows] == ["a-seed-1", "a-seed-2", "b|c-seed-1", "b|c-seed-2"]
    assert rows[0]["accuracy"] == "0.9"
    assert (rows[1]["search_seconds"], rows[1]["train_seconds"], rows[1]["total_seconds"]) == ("4.0", "", "4.0")
    assert rows[2]["reason"] == "a <b>\nbad file"


def test_the_use_of_the_processor_is_sampled():
    with Utilisation(every=0.02) as busy:
        until = time.process_time() + 0.1
        while time.process_time() < until:
            pass
    with Utilisation(every=0.02) as idle:
        time.sleep(0.1)
    assert idle.over(SingleProcess())["mean"] < busy.over(SingleProcess())["mean"]


def test_long_cells_have_few_samples():
    with Utilisation(every=1e-4) as used:
        time.sleep(0.3)
    found = used.over(SingleProcess())
    assert 1 <= len(found["over_time"]) <= MOST_SAMPLES
    assert found["every"] == pytest.approx(1e-4 * round(found["every"] / 1e-4))

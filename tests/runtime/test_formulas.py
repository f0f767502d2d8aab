"""Names that a spreadsheet would run are written unchanged and reported."""

from __future__ import annotations

import csv
import io
import json
import logging

import numpy as np
import pytest

from rcdp_hpc.deploy.formats.base import Block, Predictions
from rcdp_hpc.deploy.formats.csv_table import CsvFormat
from rcdp_hpc.deploy.formats.json_lines import JsonLinesFormat
from rcdp_hpc.runtime.formulas import is_formula, warn_of_formulas

FORMULA = "=cmd|' /C calc'!A0"


@pytest.mark.parametrize("name", [FORMULA, "=A1", "+A1", "-A1", "@SUM(A1)", "\t=A1", "\r=A1", "\uff1dA1", "=\n1"])
def test_formulas(name):
    assert is_formula(name)


@pytest.mark.parametrize("name", ["", "a", "-1", "+1.5", "-1e5", "-", "=", "a=b", "1-2", "-3 %".replace(" ", "")])
def test_names_and_numbers_are_not_formulas(name):
    assert not is_formula(name)


def predictions():
    blocks = [Block(np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]], np.float32))]
    return Predictions(blocks, 2, [FORMULA, "x\u202e\n"], [FORMULA, "a\x1b[2J"], "=id")


def test_predictions_have_the_exact_names_and_a_warning_names_the_columns(tmp_path, caplog, monkeypatch):
    file = io.BytesIO()
    CsvFormat().write(file, predictions())
    rows = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
    assert rows[0] == ["=id", "label", f"p_{FORMULA}", "p_x\u202e\n"]
    assert [row[:2] for row in rows[1:]] == [[FORMULA, FORMULA], ["a\x1b[2J", "x\u202e\n"]]
    monkeypatch.setattr(logging.getLogger("rcdp_hpc"), "propagate", True)
    CsvFormat().report(tmp_path / "p.csv", predictions())
    said = "\n".join(caplog.messages)
    assert "p.csv, column '=id': 1 name looks" in said
    assert "p.csv, column 'label': 1 name looks" in said
    assert "first line" in said
    caplog.clear()
    warn_of_formulas(logging.getLogger("rcdp_hpc"), tmp_path, {"column 'x'": ["a", "-1"]})
    assert caplog.messages == []


def test_json_lines_have_the_exact_names_without_raw_escapes():
    file = io.BytesIO()
    JsonLinesFormat().write(file, predictions())
    text = file.getvalue().decode()
    assert text.isascii()
    assert [json.loads(line)["=id"] for line in text.splitlines()] == [FORMULA, "a\x1b[2J"]

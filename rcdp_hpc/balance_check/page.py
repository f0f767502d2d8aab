"""The page of a check, in the style of the reports of runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rcdp_hpc.balance_check.measures import SHOWN
from rcdp_hpc.balance_check.texts import interval_text, words
from rcdp_hpc.evaluation.report.html import Html, bullets, code, join, paragraph, table
from rcdp_hpc.evaluation.report.page import Section, render
from rcdp_hpc.evaluation.report.text import class_name, counted, moment

Record = Mapping[str, Any]


def check_page(record: Record) -> str:
    """Return the page of the content of balance-check.json."""
    sections = [
        Section("result", "Result", lambda: _result(record)),
        Section("methods", "Methods", lambda: _methods(record)),
        Section("differences", "Differences to no balancing", lambda: _differences(record)),
        Section("classes", "Recall by class", lambda: _classes(record)),
        Section("how", "What was measured", lambda: _how(record)),
    ]
    return render("Balance check", f"{record['data']['description']} · written {moment(time.time())}", sections)


def _result(record: Record) -> Html:
    verdict = record["verdict"]
    items = [join(code(key), " = ", code(value)) for key, value in verdict["set"].items()]
    return join(paragraph(verdict["sentence"], class_="lead"), paragraph("Keys of the configuration:"), bullets(items))


def _methods(record: Record) -> Html:
    header = ("method", "what it is", "rows of a training", *map(words, _names(record)), "ECE", "ECE, calibrated")
    rows = [
        (one["name"], one["meaning"], one["rows"], *(f"{100 * one[name]:.1f} %" for name in _names(record)),
         one["ece_raw"], one["ece"])
        for one in record["methods"]
    ]  # fmt: skip
    caption = "Over all held-out rows; each is scored by a readout that is solved without its fold"
    left = [f"{name} is left out: {reason}." for name, reason in record["left_out"].items()]
    return join(table(caption, header, rows, words=(1,)), bullets(left))


def _names(record: Record) -> list[str]:
    """Return the measures, the one that decides first."""
    criterion = record["settings"]["criterion"]
    return [criterion, *(name for name in SHOWN if name != criterion)]


def _differences(record: Record) -> Html:
    header = ("method", *map(words, _names(record)))
    rows = [
        (one["name"], *(interval_text(one["differences"][name]) for name in _names(record)))
        for one in record["methods"][1:]
    ]
    note = (
        "In points, with the interval of 95 % of a bootstrap over rows, widened because training parts overlap. "
        "Intervals are not corrected for the number of methods."
    )
    return join(table("Differences", header, rows, words=tuple(range(1, len(header)))), paragraph(note, class_="note"))


def _classes(record: Record) -> Html:
    methods, data = record["methods"], record["data"]
    rows = [
        (class_name(name), count, *(one["recall"][place] for one in methods))
        for place, (name, count) in enumerate(zip(data["classes"], data["counts"], strict=True))
    ]
    return table("Recall", ("class", "rows", *(one["name"] for one in methods)), rows, tall=len(rows) > 40)


def _how(record: Record) -> Html:
    settings = record["settings"]
    rows, criterion = counted(record["data"]["rows"], "row"), words(settings["criterion"])
    first = paragraph(f"{rows} in {settings['folds']} folds; {criterion} decides.")
    return join(first, bullets(record["notes"]))

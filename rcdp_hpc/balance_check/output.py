"""The result of a check: a sealed record, and the record as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rcdp_hpc.balance_check.comparison import Compared
from rcdp_hpc.balance_check.measures import SHOWN
from rcdp_hpc.balance_check.page import check_page
from rcdp_hpc.balance_check.texts import interval_text, words
from rcdp_hpc.runtime.digests import write_sealed
from rcdp_hpc.runtime.files import write_text
from rcdp_hpc.runtime.text import plain_line

FILE = "balance-check.json"
PAGE = "balance-check.html"
FORMAT = "rcdp balance-check"
FORMAT_VERSION = 1

Record = dict[str, Any]


def method_record(one: Compared, calibration: Mapping[str, Any], keys: Mapping[str, Any]) -> Record:
    """Return a method and its measures as plain values.

    Parameters
    ----------
    one : Compared
    calibration : mapping
        Expected calibration error of the readout itself (``ece_raw``), calibrated (``ece``), and how.
    keys : mapping
        The keys of the configuration with which a run does the same, and their values.
    """
    answers = one.answers
    return {
        "name": answers.name,
        "meaning": answers.meaning,
        "rows": answers.rows,
        "penalties": answers.penalties,
        "chosen": dict(answers.chosen),
        **one.values,
        **calibration,
        "recall": one.recall,
        "differences": {name: asdict(value) for name, value in one.differences.items()},
        "set": dict(keys),
    }


def write_record(record: Record, directory: Path) -> list[Path]:
    """Write balance-check.json and balance-check.html; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / FILE, directory / PAGE]
    write_sealed(paths[0], {"format": FORMAT, "format_version": FORMAT_VERSION, **record})
    write_text(paths[1], check_page(record))
    return paths


def table(record: Record) -> list[str]:
    """Return the methods as the lines of a table, and why others are left out.

    Measures are in per cent, differences in points.
    """
    criterion = record["settings"]["criterion"]
    names = [criterion, *(name for name in SHOWN if name != criterion)]
    heads = ["method", "rows", *map(words, names), "ECE", f"{words(criterion)} - none"]
    left_out = [f"{name} is left out: {plain_line(reason)}." for name, reason in record["left_out"].items()]
    return [*_aligned([heads, *(_cells(one, names) for one in record["methods"])]), *left_out]


def _cells(one: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    values = [f"{100 * one[name]:.1f}" for name in names]
    difference = one["differences"].get(names[0])
    text = "" if difference is None else interval_text(difference)
    return [one["name"], str(one["rows"]), *values, f"{one['ece']:.3f}", text]


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    last = len(widths) - 1
    for row in rows:
        cells = [
            text.ljust(width) if place in (0, last) else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()

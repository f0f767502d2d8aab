"""The tables of the experiment."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcdp_hpc.comparison.paper.effect import EffectRun
from rcdp_hpc.comparison.paper.parts import Grid, Notes, Part, Words
from rcdp_hpc.comparison.paper.reported import METHODS, RESERVOIR, Reported
from rcdp_hpc.comparison.paper.settings import TITLES
from rcdp_hpc.comparison.results import Comparison, Summary, Timings

NOTHING = "-"
ARMS = {"rows": "rows of pixels", "extractor": "trained extractor"}


def methods_table(data: str, comparison: Comparison, timings: Timings) -> list[Part]:
    """Return Table 3 (CIFAR-10) or 4 (MNIST): accuracy and time of every method, and what the paper reports.

    Parameters
    ----------
    data : {"cifar10", "mnist"}
    comparison : Comparison
    timings : Timings
        Of the same comparison.
    """
    header = ("method", "reads", "accuracy", "macro F1", "cells", "seconds", "paper reports", "in")
    rows = [
        (
            one.method,
            ARMS.get(one.arm, one.arm),
            _percent(one, "accuracy"),
            _number(one, "macro_f1"),
            f"{one.done} of {one.planned}",
            _seconds(one, comparison, timings),
            *_reported(METHODS[data].get(one.method)),
        )
        for one in comparison.summaries
        if one.budget == "evaluations"
    ]
    left_out = [f"{one.method} ({ARMS.get(one.arm, one.arm)}): left out, {one.reason}" for one in comparison.left_out]
    failed = [f"{cell.name}: failed, {cell.reason}" for cell in comparison.failed]
    return [Grid("Accuracy and time by method", header, rows, words=(1,)), Notes(left_out + failed)]


def tests_table(comparison: Comparison) -> Grid:
    """Return the paired tests of the first method against each other one."""
    header = ("against", "reads", "difference", "test", "pairs", "p", "p (Holm)")
    rows = [
        (
            one.other,
            ARMS.get(one.arm, one.arm),
            NOTHING if one.difference is None else f"{100 * one.difference:+.2f} points",
            one.test or one.note,
            str(one.pairs),
            *(NOTHING if value is None else f"{value:.2g}" for value in (one.p, one.p_holm)),
        )
        for one in comparison.tests
        if one.budget == "evaluations"
    ]
    first = comparison.methods[0].name
    return Grid(f"Accuracy of {first} less that of each other method", header, rows, words=(1, 3))


def effect_table(results: Sequence[EffectRun]) -> Grid:
    """Return Table 5: with and without a reservoir, at equal epochs and at equal seconds, means over the seeds."""
    header = (
        "data", "reservoir", "equal", "accuracy", "macro F1", "epochs", "seconds", "gradient, first over last step",
        "paper reports", "in",
    )  # fmt: skip
    rows = []
    for key in dict.fromkeys((one.data, one.reservoir, one.equal) for one in results):
        data, reservoir, equal = key
        group = [one for one in results if (one.data, one.reservoir, one.equal) == key]
        rows.append(
            (
                TITLES[data],
                "with" if reservoir else "without",
                NOTHING if reservoir else equal,
                spread([100 * one.accuracy for one in group], "{:.2f} %"),
                spread([one.macro_f1 for one in group], "{:.4f}"),
                spread([one.epochs for one in group], "{:.0f}"),
                spread([one.seconds for one in group], "{:.0f}"),
                spread([one.gradient_ratio for one in group], "{:.2g}"),
                *_reported(RESERVOIR.get(data, {}).get(reservoir) if equal == "epochs" else None),
            )
        )
    return Grid("The same network with and without its reservoir", header, rows, words=(1, 2))


def utilisation_table(comparison: Comparison, timings: Timings) -> Grid:
    """Return how busy the processors were, by method: mean over the cells, and the deviation over time."""
    header = ("method", "reads", "busy, mean", "deviation over time")
    rows = []
    for one in comparison.summaries:
        values = [timings.cells[name].utilisation for name in _cells(one, comparison) if name in timings.cells]
        values = [value for value in values if value.get("mean") is not None]
        if one.budget == "evaluations" and values:
            mean, deviation = (statistics.fmean(value[key] for value in values) for key in ("mean", "deviation"))
            rows.append((one.method, ARMS.get(one.arm, one.arm), f"{mean:.0f} %", f"{deviation:.0f} points"))
    caption = "Processor time over wall time of all cores of the ranks"
    return Grid(caption, header, rows, words=(1,))


def spread(values: Sequence[float], form: str) -> str:
    """Return a mean, with the sample standard deviation of several values, in a format such as ``"{:.2f} %"``.

    A dash if a value is not a number.
    """
    if any(map(math.isnan, values)):
        return NOTHING
    mean = form.format(statistics.fmean(values))
    if len(values) < 2:
        return mean
    deviation = form.format(statistics.stdev(values))
    unit = " %" if mean.endswith(" %") else ""
    return f"{mean.removesuffix(unit)} ± {deviation}"


def _percent(one: Summary, name: str) -> str:
    return _value(one, name, lambda value: f"{100 * value:.2f}", " %")


def _number(one: Summary, name: str) -> str:
    return _value(one, name, lambda value: f"{value:.4f}", "")


def _value(one: Summary, name: str, text: Callable[[float], str], unit: str) -> str:
    if name not in one.mean:
        return "failed" if one.failed else NOTHING
    deviation = f" ± {text(one.deviation[name])}" if name in one.deviation else ""
    return f"{text(one.mean[name])}{deviation}{unit}"


def _seconds(one: Summary, comparison: Comparison, timings: Timings) -> str:
    times = [timings.cells[name].total for name in _cells(one, comparison) if name in timings.cells]
    return spread(times, "{:.0f}") if times else NOTHING


def _cells(one: Summary, comparison: Comparison) -> list[str]:
    key = (one.method, one.arm, one.budget)
    return [cell.name for cell in comparison.cells if cell.done and (cell.method, cell.arm, cell.budget) == key]


def _reported(one: Reported | None) -> tuple[str, str]:
    return (NOTHING, NOTHING) if one is None else (f"{100 * one.accuracy:.1f} %", f"{one.hours:g} h")


def sizes_table(table: Mapping[str, Any]) -> list[Part]:
    """Return Table 6, and the line through its seconds, from the content of ``sizes.json``.

    Parameters
    ----------
    table : mapping
        As `rcdp_hpc.comparison.paper.sizes.SizeTable.as_json` returns it.
    """
    header = ("GiB of JPEG files", "images", "accuracy", "prepare", "train", "evaluate", "seconds", "images/s", "peak")
    rows = [
        (
            f"{one['bytes'] / 2**30:.3g}",
            f"{one['images']:,}",
            f"{100 * one['accuracy']:.2f} %",
            *(f"{one['seconds'][stage]:.1f}" for stage in ("prepare", "train", "evaluate", "total")),
            f"{one['images_per_second']:.0f}",
            f"{max(one['peak_mib'].values()):.0f} MiB",
        )
        for one in table["sizes"]
    ]
    caption = f"Time and memory by size, with a memory budget of {table['memory_budget_mib']} MiB for the preparation"
    line = _line_text(table)
    return [Grid(caption, header, rows), *([Words(line)] if line else []), Notes(table["notes"])]


def _line_text(table: Mapping[str, Any]) -> str:
    """Return the line through the seconds and its extension in words."""
    line, far = table["line"], table["far"]
    if line is None or far is None:
        return ""
    slope = f"seconds = {line['intercept']:.1f} + {line['slope']:.1f} per GiB"
    if far["half_width"] is None:
        return f"The line through the sizes: {slope}. At {far['x'] * 2**30 / 1e9:.0f} GB: {far['value'] / 3600:.1f} h."
    errors = f"standard errors {line['intercept_error']:.1f} and {line['slope_error']:.2g}"
    interval = f"{far['value'] / 3600:.1f} ± {far['half_width'] / 3600:.1f} h (95 % interval of the prediction)"
    return f"The line through the sizes: {slope} ({errors}). At {far['x'] * 2**30 / 1e9:.0f} GB: {interval}."

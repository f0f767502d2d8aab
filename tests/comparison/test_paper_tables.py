"""Tables of the paper's experiment: what was measured, what failed, and what the paper reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.paper import tables
from rcdp_hpc.comparison.paper.effect import EffectRun
from rcdp_hpc.comparison.paper.parts import Grid, Part, Picture
from rcdp_hpc.comparison.results import (
    CellResult,
    CellTiming,
    Comparison,
    LeftOut,
    MethodInfo,
    PairedTest,
    Summary,
    Timings,
)


def cells_of(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.strip("|").split("|")]


def lines_of(*parts: Part) -> list[str]:
    """Return the lines of parts in Markdown, without captions: header, rule, rows, notes."""
    text = "\n".join(part.markdown() for part in parts)
    return [line for line in text.splitlines() if line.startswith(("|", "-"))]


def cell(method: str, seed: int, status: str = "done") -> CellResult:
    """Return the result of a cell."""
    reason = "" if status == "done" else "every candidate failed"
    return CellResult(f"{method}-seed-{seed}", method, "rows", "evaluations", seed, 0, status, reason)  # type: ignore[arg-type]


def comparison(**changes: Any) -> Comparison:
    """Return a comparison of two methods on two seeds, one cell of which failed."""
    summaries = [
        Summary("mfo", "rows", "evaluations", 2, 2, [], {"accuracy": 0.5, "macro_f1": 0.4}, {"accuracy": 0.02}),
        Summary("woa-lstm", "rows", "evaluations", 1, 2, ["woa-lstm-seed-2"], {"accuracy": 0.25, "macro_f1": 0.2}, {}),
    ]
    content: dict[str, Any] = {
        "settings": {},
        "methods": [MethodInfo("mfo", "", ""), MethodInfo("woa-lstm", "", "")],
        "left_out": [LeftOut("trees", "rows", "images are not a table")],
        "repeats": "seeds",
        "arms": ["rows"],
        "budgets": {},
        "data": {},
        "cells": [cell("mfo", 1), cell("woa-lstm", 1), cell("mfo", 2), cell("woa-lstm", 2, "failed")],
        "summaries": summaries,
        "tests": [PairedTest("mfo", "woa-lstm", "rows", "evaluations", "paired t", 2, 0.25, 3.0, 0.04, 0.08)],
        "versions": {},
    }
    return Comparison(**{**content, **changes})


def timings() -> Timings:
    """Return times of the cells that are done."""
    use = {"mean": 80.0, "deviation": 10.0, "every": 1.0, "over_time": [70.0, 90.0]}
    seconds = {"mfo-seed-1": 10.0, "mfo-seed-2": 30.0, "woa-lstm-seed-1": 50.0}
    return Timings({name: CellTiming({}, total, 1, use) for name, total in seconds.items()}, {})


def test_methods_with_their_failed_cells_and_what_the_paper_reports() -> None:
    lines = lines_of(*tables.methods_table("cifar10", comparison(), timings()))

    assert cells_of(lines[2]) == [
        "mfo", "rows of pixels", "50.00 ± 2.00 %", "0.4000", "2 of 2", "20 ± 14", "88.9 %", "3.2 h",
    ]  # fmt: skip
    assert cells_of(lines[3])[2:6] == ["25.00 %", "0.2000", "1 of 2", "50"]
    assert cells_of(lines[3])[6:] == ["82.5 %", "10 h"]
    assert "- trees (rows of pixels): left out, images are not a table" in lines
    assert "- woa-lstm-seed-2: failed, every candidate failed" in lines


def test_a_method_without_a_result_is_shown_as_failed() -> None:
    failed = Summary("woa-lstm", "rows", "evaluations", 0, 2, ["woa-lstm-seed-1", "woa-lstm-seed-2"], {}, {})

    lines = lines_of(*tables.methods_table("mnist", comparison(summaries=[failed]), timings()))

    assert cells_of(lines[2])[2:5] == ["failed", "failed", "0 of 2"]


def test_paired_tests() -> None:
    lines = lines_of(tables.tests_table(comparison()))

    assert cells_of(lines[2]) == ["woa-lstm", "rows of pixels", "+25.00 points", "paired t", "2", "0.04", "0.08"]


def test_utilisation_by_method() -> None:
    lines = lines_of(tables.utilisation_table(comparison(), timings()))

    assert cells_of(lines[2]) == ["mfo", "rows of pixels", "80 %", "10 points"]


def test_the_paper_reports_equal_epochs_only() -> None:
    runs = [
        EffectRun("cifar10", True, "epochs", 1, 0.6, 0.6, 4, 10.0, 0.5),
        EffectRun("cifar10", False, "epochs", 1, 0.61, 0.6, 4, 5.0, 1.0),
        EffectRun("cifar10", False, "seconds", 1, 0.62, 0.6, 8, 10.0, 1.0),
    ]

    lines = lines_of(tables.effect_table(runs))

    assert [cells_of(line)[-2] for line in lines[2:]] == ["88.9 %", "85.2 %", "-"]
    assert [cells_of(line)[1:4] for line in lines[2:]] == [
        ["with", "-", "60.00 %"], ["without", "epochs", "61.00 %"], ["without", "seconds", "62.00 %"],
    ]  # fmt: skip


def test_sizes_and_their_line() -> None:
    stages = {"prepare": 8.0, "train": 1.0, "evaluate": 1.0, "total": 10.0}
    size = {"bytes": 2**30, "images": 7000, "accuracy": 0.5, "seconds": stages, "images_per_second": 875.0,
            "peak_mib": {"prepare": 900.0}}  # fmt: skip
    content = {
        "memory_budget_mib": 1024,
        "sizes": [size],
        "notes": ["images: up-scaled"],
        "line": {"intercept": 2.0, "slope": 8.0, "intercept_error": 0.5, "slope_error": 0.25},
        "far": {"x": 500e9 / 2**30, "value": 3600.0, "half_width": 360.0},
    }

    text = "\n".join(part.markdown() for part in tables.sizes_table(content))

    assert "| 1 | 7,000 | 50.00 % | 8.0 | 1.0 | 1.0 | 10.0 | 875 | 900 MiB |" in text
    assert "seconds = 2.0 + 8.0 per GiB (standard errors 0.5 and 0.25)" in text
    assert "At 500 GB: 1.0 ± 0.1 h (95 % interval of the prediction)" in text
    assert "- images: up-scaled" in text


def test_a_single_value_has_no_deviation() -> None:
    assert tables.spread([12.5], "{:.1f} %") == "12.5 %"
    assert tables.spread([1.0, 3.0], "{:.1f} %") == "2.0 ± 1.4 %"


def test_a_dash_for_values_that_are_not_numbers() -> None:
    assert tables.spread([math.nan, 1.0], "{:.2g}") == "-"


def test_markdown() -> None:
    assert Grid("c", ("a", "b"), [("1", "x|y")]).markdown() == "c:\n\n| a | b |\n| --- | ---: |\n| 1 | x\\|y |"


def test_html_is_escaped_and_pictures_are_within_the_page(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"png")

    html = Picture(tmp_path, "one.png", "losses <b>").html()

    assert html == '<figure class="wide"><img src="data:image/png;base64,cG5n" alt="losses &lt;b&gt;"/></figure>'
    assert "&lt;script&gt;" in Grid("c", ("a",), [("<script>",)]).html()

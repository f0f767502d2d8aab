"""How far the probabilities of the model can be trusted."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.evaluation.report.charts import Line, line_chart
from rcdp_hpc.evaluation.report.html import Html, join, number, paragraph, table
from rcdp_hpc.evaluation.report.run_files import RunFiles

NAMES = {"model": "model itself", "reported": "as reported"}


def reliability(files: RunFiles) -> Html:
    """Return the section about the probabilities: the reliability diagram, with the number of samples of each bin."""
    content = files.reliability
    if content is None:
        return paragraph("The test has not been evaluated by a version that records it. Evaluate the run again.")
    present = {name: content[name] for name in NAMES if name in content}
    errors = ", ".join(f"{NAMES[name]} {number(kind['ece'])}" for name, kind in present.items())
    lines = [Line(NAMES[name], *_points(kind)) for name, kind in present.items()]
    lines.append(Line("perfect calibration", [0.0, 1.0], [0.0, 1.0]))
    lead = (
        "Of samples with a largest probability of 0.8, the model should be right about 80 in 100 times. The expected "
        f"calibration error (ECE) is the mean distance from that: {errors}."
    )
    if "reported" not in present:
        lead += " The probabilities are those of the model itself: it is not calibrated."
    chart = line_chart(
        f"Expected calibration error: {errors}", "Reliability of the largest probability of the test samples",
        "largest probability", "share of right samples", lines, zero=True, whole_x=False,
    )  # fmt: skip
    return join(paragraph(lead), chart, table("Samples of each bin", _header(present), _rows(content["bins"], present)))


def _points(kind: dict[str, Any]) -> tuple[list[float], list[float | None]]:
    pairs = [(x, y) for x, y in zip(kind["probability"], kind["accuracy"], strict=True) if x is not None]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _header(present: dict[str, Any]) -> tuple[str, ...]:
    columns = [f"{what}, {NAMES[name]}" for name in present for what in ("samples", "right")]
    return ("largest probability", *columns)


def _rows(bins: int, present: dict[str, Any]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    for place in range(bins):
        cells = [(kind["rows"][place], kind["accuracy"][place]) for kind in present.values()]
        if any(count for count, _ in cells):
            shown = [text for count, right in cells for text in (f"{count:,}", "-" if right is None else number(right))]
            rows.append((f"{place / bins:.2f} to {(place + 1) / bins:.2f}", *shown))
    return rows

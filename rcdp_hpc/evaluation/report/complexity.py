"""Numbers, operations, bytes and time of the model."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.evaluation.report.html import Html, join, paragraph, table
from rcdp_hpc.evaluation.report.run_files import RunFiles

Record = dict[str, Any]


def complexity(files: RunFiles) -> Html:
    """Return the section about the complexity of the model."""
    size = None if files.summary is None else files.summary.get("complexity")
    if not isinstance(size, dict):
        missing = "There is no result on the test yet." if files.summary is None else "The summary does not have it."
        return paragraph(f"{missing} Evaluate the run to measure it.")
    rows = [
        ("trained parameters", _count(size["trained"])),
        ("numbers other than 0 that the prediction reads from the file", _count(size["nonzero"])),
        (f"fixed numbers of the reservoir ({_origin(size)})", _count(size["fixed"])),
        ("floating-point operations of a sample", _count(size["flops"])),
        ("the same without products of weights that are 0", _count(size["sparse_flops"])),
        ("bytes of the model file", _count(size["bytes"])),
        ("milliseconds of a sample on one thread", _milliseconds(size["milliseconds"])),
    ]
    parts = [table("The model", ("measure", "value"), rows)]
    if size["uncounted"]:
        parts.append(paragraph(f"Operations of these layers are not known and not counted: {_names(size)}."))
    return join(*parts)


def _origin(size: Record) -> str:
    return "they follow from its seed: 0 bytes in the file" if size["seeded"] else "given by the user, in the file"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"


def _names(size: Record) -> str:
    return ", ".join(map(str, size["uncounted"]))

"""Read new samples from a file whose content decides the format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from rcdp_hpc.data.sources.base import NewSamples
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.request import SampleRequest
from rcdp_hpc.data.sources.sniff import CSV, IMAGE, TABLES, TS, Format, format_named, format_of, formats_by_name
from rcdp_hpc.errors import InputError

SHOWN_COLUMNS = 20

Reader = Callable[[SampleRequest], NewSamples]


def read_by_content(
    request: SampleRequest, usual: tuple[str, ...] = (), tsv_is_series: bool = False, reader: Reader | None = None
) -> NewSamples:
    """Return the samples of a file by the format of its content, or the images of a folder.

    Parameters
    ----------
    request : SampleRequest
    usual : tuple of str
        Formats that the model's source usually has; another one is recorded in the findings.
    tsv_is_series : bool
        Whether the rows of a .tsv file are series, as in the UCR archive.
    reader : callable, optional
        Reads a file of any format; default: the reader of the format.

    Raises
    ------
    InputError
        If the file is damaged or empty, or its format is not read.
    """
    path = request.path
    if path.is_dir():
        return reader_of(format_named(IMAGE))(request)
    content = _with_series(format_of(path), path, tsv_is_series)
    if not content.reader:
        raise InputError(f"{path}: {content.meaning}: unpack it first.")
    samples = (reader or reader_of(content))(request)
    return replace(samples, findings=_with_assumed(samples.findings, content, request, usual))


def reader_of(content: Format) -> Reader:
    """Return the function that reads new samples of a format; its module is imported only now."""
    module, _, name = content.reader.partition(":")
    return getattr(import_module(module), name)  # type: ignore[no-any-return]


def _with_series(content: Format, path: Path, tsv_is_series: bool) -> Format:
    """Return the format to read, for text files that hold series although their content looks like a table.

    The .ts reader explains what a file called .ts lacks.
    """
    name = path.name.lower()
    is_series = name.endswith(".ts") or (tsv_is_series and name.removesuffix(".gz").endswith(".tsv"))
    if content.name == CSV and is_series:
        return replace(format_named(TS), meaning="a file of time series")
    return content


def _with_assumed(findings: Findings, content: Format, request: SampleRequest, usual: tuple[str, ...]) -> Findings:
    """Record a format that the name of the file or the model's source does not suggest."""
    path, columns, assumed = request.path, request.columns, []
    if content.name not in [one.name for one in formats_by_name(path)] and (path.suffix or content.name != "idx"):
        assumed.append(f"{path.name} is {content.meaning}, by its content")
    if usual and content.name not in usual:
        assumed.append(
            f"{path.name} is {content.meaning}; the model was trained on data.source = '{request.data.source}'"
        )
    if columns is not None and content.name not in TABLES:
        more = ", ..." if len(columns.features) > SHOWN_COLUMNS else ""
        names = ", ".join(columns.features[:SHOWN_COLUMNS]) + more
        assumed.append(f"the values of {path.name} have no names, so they are taken in the order of training: {names}")
    findings.assumed[:0] = assumed
    return findings

"""Open the files of a table: one file, or the parts in a folder."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.config.regular_files import refuse_special, refuse_undecodable
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.arff_table import ArffTable
from rcdp_hpc.data.sources.csv_reading import CsvFile
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.frame_table import FrameTable
from rcdp_hpc.data.sources.parquet_reading import ParquetFile
from rcdp_hpc.data.sources.sniff import ARFF, format_of
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.os_errors import unreadable_error

PARQUET_MAGIC = b"PAR1"
PARQUET_SUFFIXES = (".parquet", ".parq", ".pq")
TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".data")
PACKED_SUFFIXES = (".gz", ".bz2", ".zst")

TableFile = CsvFile | ParquetFile | ArffTable | FrameTable


def open_files(path: Path, data: DataSection, expected: Collection[str], findings: Findings) -> list[TableFile]:
    """Open the file of a table, or the parts in a folder in the order of their names.

    Parameters
    ----------
    path : Path
        A csv file, plain or compressed, a parquet file, or a folder of either.
    data : DataSection
        Dialect of csv files.
    expected : collection of str
        Names of columns that the table should have.
    findings : Findings
        Receives assumptions and omissions.

    Raises
    ------
    InputError
        If pyarrow is missing, there is no file, or the parts do not have the same columns.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{path}: tables are read by pyarrow, which is missing: pip install pyarrow.") from None
    if not path.exists():
        raise InputError(f"{path}: no such file.")
    try:
        if not path.is_dir():
            return [_open(path, data, expected, findings)]
        paths = _parts(path, data.source, findings)
        files = [_open(part, data, expected, findings if part == paths[0] else Findings()) for part in paths]
    except OSError as error:
        raise unreadable_error(error, path) from None
    for file in files[1:]:
        if set(file.names) != set(files[0].names):
            differing = sorted(set(file.names) ^ set(files[0].names))
            raise InputError(
                f"{file.path}: its columns differ from those of {files[0].path.name}: {', '.join(differing[:10])}."
            )
    if len(files) > 1:
        findings.assumed.append(f"{path}: {len(files)} files are one table, in the order of their names")
    return files


def _open(path: Path, data: DataSection, expected: Collection[str], findings: Findings) -> TableFile:
    """Open a file by its content, not by its name."""
    refuse_special(path)
    refuse_undecodable(path)
    with path.open("rb") as file:
        magic = file.read(4)
    if not magic:
        raise InputError(f"{path}: empty.")
    if magic == PARQUET_MAGIC:
        return ParquetFile(path, Budget.of(data))
    if _is_arff(path):
        return ArffTable(path, data, findings)
    if _kind_of(path) == "parquet" or (data.source == "parquet" and _kind_of(path) != "csv"):
        raise InputError(f"{path}: cannot be read as parquet: its first bytes are not those of a parquet file.")
    return CsvFile(path, data, expected, findings)


def _is_arff(path: Path) -> bool:
    try:
        return format_of(path).name == ARFF
    except InputError:  # the reader of the csv file reports the error
        return False


def _parts(folder: Path, source: str, findings: Findings) -> list[Path]:
    """Return the files of ``data.source`` in a folder; if there are none, those of the other kind of table."""
    entries = sorted(folder.iterdir())
    shown = [entry for entry in entries if not entry.name.startswith((".", "_"))]
    folders = [entry.name for entry in shown if entry.is_dir()]
    if folders:
        raise InputError(
            f"{folder}: holds folders ({', '.join(folders[:5])}). Partitioned tables are not read, because the names "
            "of their folders are values: write the table as one file, or as files in one folder."
        )
    kinds = {entry: _kind_of(entry) for entry in shown}
    kind = (
        source
        if source in kinds.values()
        else next((kind for kind in ("parquet", "csv") if kind in kinds.values()), "")
    )
    parts = [entry for entry in shown if kinds[entry] == kind != ""]
    if not parts:
        raise InputError(f"{folder}: no csv or parquet file in this folder.")
    for entry in entries:
        if entry not in parts:
            findings.leave_out(f"files that are not {kind} tables", example=entry.name)
    return parts


def _kind_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    return "parquet" if last in PARQUET_SUFFIXES else "csv" if last in TEXT_SUFFIXES else ""

"""Files of predictions: one writer for each format."""

from __future__ import annotations

import csv
import io
import json
import logging
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.formulas import warn_of_formulas
from rcdp_hpc.runtime.text import plain_line

log = logging.getLogger(__name__)

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Probabilities of all samples, block by block in their order, and what they belong to.

    Attributes
    ----------
    blocks : iterable of ndarray of float32, shape (n, classes)
        Can be gone through once.
    rows : int
        Samples of all blocks together.
    classes : list of str
        Names of the classes.
    ids : sequence of str, or None
        Name of each sample; None if it has only its number, from 0.
    id_name : str
        Header of the first column: "file", "group", the name of a column, or "sample".
    """

    blocks: Iterable[Probabilities]
    rows: int
    classes: list[str]
    ids: Sequence[str] | None = None
    id_name: str = "sample"

    def warn_of_formulas(self, path: Path) -> None:
        """Log which columns of a CSV file a spreadsheet may run."""
        sample, label, columns = self.header
        names = {f"column {sample!r}": self.ids or (), f"column {label!r}": self.classes}
        warn_of_formulas(log, path, {"first line": [sample, *columns], **names})

    def with_ids(self) -> Iterator[tuple[Sequence[str] | Sequence[int], Probabilities]]:
        """Yield the names, or numbers, and the probabilities of some samples at a time."""
        first = 0
        for block in self.blocks:
            last = first + len(block)
            yield range(first, last) if self.ids is None else self.ids[first:last], block
            first = last

    @property
    def header(self) -> tuple[str, str, list[str]]:
        """Names of the columns: of the samples, of the labels, and of the probabilities of each class.

        No two are the same: a column of ids that is called "label" becomes "sample_label".
        """
        columns = [f"p_{name}" for name in self.classes]
        name = self.id_name
        return f"sample_{name}" if name in ("label", *columns) else name, "label", columns


@dataclass(frozen=True)
class OutputFormat:
    """A format that predictions are written in.

    Attributes
    ----------
    suffix : str
        End of the names of such files.
    meaning : str
        What they hold, for help and messages.
    write : callable
        Writes predictions to a binary file.
    needs : str
        Package that must be installed; empty if none is.
    """

    suffix: str
    meaning: str
    write: Callable[[BinaryIO, Predictions], None]
    needs: str = ""


def output_format(path: Path) -> OutputFormat:
    """Return the format that the name of a file asks for, in whatever case it is written.

    Raises
    ------
    InputError
        If the name ends otherwise, is that of a folder, or the format needs a package that is missing.
    """
    chosen = FORMATS.get(path.suffix.lower())
    if chosen is None:
        raise InputError(f"{path}: predictions are written to files whose names end in {FORMAT_NAMES}.")
    if path.is_dir():
        raise InputError(f"{path}: a folder; name a file to write the predictions to.")
    if chosen.needs and find_spec(chosen.needs) is None:
        raise InputError(f"{path}: needs {chosen.needs}, which is missing: pip install {chosen.needs}.")
    return chosen


def _write_csv(file: BinaryIO, predictions: Predictions) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", errors="surrogateescape")
    writer = csv.writer(text, lineterminator="\n")
    sample, label, columns = predictions.header
    writer.writerow([sample, label, *columns])
    classes = predictions.classes
    for ids, block in predictions.with_ids():
        for name, chosen, row in zip(ids, block.argmax(1), block, strict=True):
            writer.writerow([name, classes[chosen], *(f"{value:.6g}" for value in row)])
    # The file is the caller's to close.
    text.detach()


def _write_jsonl(file: BinaryIO, predictions: Predictions) -> None:
    sample, label, _ = predictions.header
    classes = predictions.classes
    unsafe = not all(map(_is_plain, [sample, *classes]))
    for ids, block in predictions.with_ids():
        for name, chosen, row in zip(ids, block.argmax(1).tolist(), block, strict=True):
            found = {key: float(f"{value:.6g}") for key, value in zip(classes, row.tolist(), strict=True)}
            content = {sample: name, label: classes[chosen], "probability": found}
            file.write(json.dumps(content, ensure_ascii=unsafe or not _is_plain(str(name))).encode() + b"\n")


def _is_plain(name: str) -> bool:
    """Tell whether a name can be written as it is: not if it has bytes that are not UTF-8, or escape sequences."""
    return plain_line(name) == name


def _write_parquet(file: BinaryIO, predictions: Predictions) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    sample, label, columns = predictions.header
    fields = [(sample, pa.int64() if predictions.ids is None else pa.string()), (label, pa.string())]
    schema = pa.schema([*fields, *((name, pa.float32()) for name in columns)])
    names = np.array(predictions.classes)
    with parquet.ParquetWriter(file, schema) as writer:
        for ids, block in predictions.with_ids():
            texts = list(ids) if predictions.ids is None else [_printable(str(name)) for name in ids]
            arrays = [pa.array(texts, schema.field(0).type), pa.array(names[block.argmax(1)], pa.string())]
            arrays += [pa.array(np.ascontiguousarray(block[:, place])) for place in range(len(columns))]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _write_npz(file: BinaryIO, predictions: Predictions) -> None:
    """Write an npz file, the largest of its arrays block by block."""
    rows, classes = predictions.rows, predictions.classes
    labels = [np.empty(0, np.int64)]
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("probability.npy", "w", force_zip64=True) as member:
            _write_header(member, np.dtype(np.float32), (rows, len(classes)))
            for block in predictions.blocks:
                labels.append(block.argmax(1))
                member.write(np.ascontiguousarray(block).tobytes())
        names = np.array(classes)
        with archive.open("label.npy", "w", force_zip64=True) as member:
            _write_header(member, np.dtype(np.int64), (rows,))
            for part in labels:
                member.write(part.tobytes())
        with archive.open("name.npy", "w", force_zip64=True) as member:
            _write_header(member, names.dtype, (rows,))
            for part in labels:
                member.write(names[part].tobytes())
        with archive.open("id.npy", "w", force_zip64=True) as member:
            ids = (
                np.arange(rows) if predictions.ids is None else np.array([_printable(name) for name in predictions.ids])
            )
            np.lib.format.write_array(member, ids, allow_pickle=False)


def _printable(name: str) -> str:
    """Return a name in which bytes that are not UTF-8 are written out."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _write_header(member: IO[bytes], dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, description)


FORMATS: Mapping[str, OutputFormat] = {
    one.suffix: one
    for one in (
        OutputFormat(".csv", "a table", _write_csv),
        OutputFormat(".npz", "arrays id, label, name and probability", _write_npz),
        OutputFormat(".parquet", "a table", _write_parquet, needs="pyarrow"),
        OutputFormat(".jsonl", "a JSON object a line", _write_jsonl),
    )
}
FORMAT_NAMES = ", ".join(list(FORMATS)[:-1]) + f" or {list(FORMATS)[-1]}"

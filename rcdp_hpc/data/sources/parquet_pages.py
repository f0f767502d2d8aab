"""The memory that the pages of a parquet file need while they are read, from the metadata and the page headers.

A page is decompressed in one piece. The metadata of the file give the bytes of each column of a row group, which has
one or more pages. The page headers (Thrift, compact protocol) give the bytes of each page.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

from rcdp_hpc.data.budget import Budget

HEADER_BYTES = 2**12
MOST_HEADER_BYTES = 2**24
# Bytes of the buffer through which a column is read if a row group is too large to be read at once.
BUFFER_BYTES = 2**20
LEAST_BUFFER = 2**12
DEEPEST = 16


def refuse_large_pages(path: Path, metadata: Any, wanted: list[str], budget: Budget) -> int:
    """Raise an `InputError` if one page of each of these columns needs more memory than the share for work.

    Parameters
    ----------
    path : Path
    metadata : pyarrow.parquet.FileMetaData
    wanted : list of str
        Names of the columns to read.
    budget : Budget

    Returns
    -------
    int
        Bytes of the buffer for each column; 0 reads the columns of a row group in one piece.
    """
    names, buffer = set(wanted), 0
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        if 3 * group.total_byte_size <= budget.work:
            continue
        columns = [group.column(place) for place in range(group.num_columns)]
        columns = [column for column in columns if column.path_in_schema.split(".")[0] in names]
        if sum(_whole(column) for column in columns) <= budget.work:
            continue
        buffer = max(LEAST_BUFFER, min(BUFFER_BYTES, budget.work // (4 * len(columns))))
        with path.open("rb") as file:
            needed = sum(buffer + _largest_page(file, column) for column in columns)
        budget.refuse_work(
            f"{path}: the pages of the columns of row group {number} ({group.num_rows} rows) are decompressed "
            "in one piece",
            needed,
            "write it with smaller row groups and pages: row_group_size = 100000 of pyarrow.parquet.write_table",
        )
    return buffer


def _whole(column: Any) -> int:
    return int(column.total_compressed_size + 2 * column.total_uncompressed_size)


def _largest_page(file: BinaryIO, column: Any) -> int:
    """Return the bytes of the largest page and the dictionary; the bytes of the column if a header is unreadable."""
    first = column.dictionary_page_offset if column.has_dictionary_page else None
    start = min(column.data_page_offset, first or column.data_page_offset)
    end, largest, dictionary = start + column.total_compressed_size, 0, 0
    while start < end:
        try:
            size, kind, unpacked, packed = _page(file, start)
        except (IndexError, struct.error, ValueError, RecursionError):
            return _whole(column)
        if unpacked < 0 or packed < 0:
            return _whole(column)
        if kind == 2:
            dictionary = 2 * unpacked
        largest = max(largest, unpacked + packed)
        start += size + packed
    return largest + dictionary


def _page(file: BinaryIO, start: int) -> tuple[int, int, int, int]:
    """Return the bytes of a page header, the kind of the page, and its bytes decompressed and compressed."""
    length = HEADER_BYTES
    while True:
        file.seek(start)
        reader = _Compact(file.read(length))
        try:
            fields = reader.struct()
        except IndexError:
            if length >= MOST_HEADER_BYTES or len(reader.data) < length:
                raise
            length *= 16
            continue
        return reader.place, fields.get(1, -1), fields.get(2, -1), fields.get(3, -1)


class _Compact:
    """Reads a struct of Thrift's compact protocol: returns its integers and skips the other fields."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def struct(self, depth: int = 0) -> dict[int, int]:
        if depth > DEEPEST:
            raise ValueError("nested too deep")
        integers: dict[int, int] = {}
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._signed()
            value = self._value(head & 15, depth)
            if value is not None:
                integers[field] = value
        return integers

    def _value(self, kind: int, depth: int) -> int | None:
        if kind in (1, 2):  # booleans: the kind is the value
            return None
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 12:
            self.struct(depth + 1)
        elif kind in (9, 10):
            self._list(depth)
        elif kind in (3, 7, 8):
            size = self._unsigned() if kind == 8 else 8 if kind == 7 else 1
            self.place += size
            if self.place > len(self.data):
                raise IndexError
        else:
            raise ValueError(f"kind {kind}")
        return None

    def _list(self, depth: int) -> None:
        head = self._byte()
        count = head >> 4 if head >> 4 != 15 else self._unsigned()
        if count > len(self.data):
            raise IndexError
        for _ in range(count):
            if head & 15 in (1, 2):
                self.place += 1
            else:
                self._value(head & 15, depth + 1)

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

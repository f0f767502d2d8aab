"""The memory that preparation may use (``data.memory_budget``), and errors for data that need more.

A quarter of the budget is for samples of the source, a quarter for samples that balancing holds, and half for the
labels, indices and names of all rows. While the source is read, before balancing, a quarter is for work: unpacking a
chunk, parsing a page or a line, decoding an image. Each need is compared with its share as soon as its size is declared
or counted, before memory is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.ram import MIB

# Blocks do not depend on the budget, so that results do not either.
QUERY_BYTES = 2**23
FITTED_BYTES = 2**25
WRITE_BYTES = 2**20
# Least bytes of the shares for rows and for work, even if the budget is smaller.
LEAST_SHARE = 2**26
# Bytes held for each sample of the source (label, class, split) and for each row of the shards (its recipe, its place
# in the order), working copies included. Measured: 60 for a sample that is one row, 55 for each synthetic row.
SAMPLE_BYTES = 32
SHARD_ROW_BYTES = 56
# A Python string and its entry in a list, without its characters.
TEXT_BYTES = 64
# Deflate compresses at most 1032 bytes to one.
DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class Budget:
    """Bytes that preparation may use, in addition to those of the process and its libraries.

    Attributes
    ----------
    bytes : int
    """

    bytes: int

    @classmethod
    def of(cls, data: DataSection) -> Budget:
        """Return the configured budget."""
        return cls(data.memory_budget * MIB)

    @property
    def source(self) -> int:
        """Bytes up to which a source is held in memory; a larger one is read from its file or from a temporary file."""
        return self.bytes // 4

    @property
    def held(self) -> int:
        """Bytes of samples that balancing holds: of one class, or of all classes if the method needs them."""
        return self.bytes // 4

    @property
    def rows(self) -> int:
        """Bytes of the labels, indices and names of all rows."""
        return max(self.bytes // 2, LEAST_SHARE)

    @property
    def work(self) -> int:
        """Bytes of one piece of data while it is unpacked, decoded or parsed."""
        return max(self.bytes // 4, LEAST_SHARE)

    def refuse_wide_rows(self, row_bytes: int, cores: int) -> None:
        """Raise an `InputError` if a single block of rows does not fit.

        Parameters
        ----------
        row_bytes : int
            Bytes of a sample in float32.
        cores : int
            Blocks that are processed at the same time.
        """
        needed = block_bytes(row_bytes, cores)
        if needed > self.bytes:
            raise InputError(
                f"data.memory_budget = {self.bytes // MIB} MiB cannot hold one block of "
                f"rows (a sample has {row_bytes / MIB:.3g} MiB): at least {math.ceil(needed / MIB)} MiB are needed."
            )

    def refuse_rows(self, where: Path | str, rows: int, row_bytes: float = SAMPLE_BYTES, extra: int = 0) -> None:
        """Raise an `InputError` if labels, indices and names of all rows need more than their share.

        Parameters
        ----------
        where : Path or str
            File or folder, for the message.
        rows : int
            Number of rows, as a header declares or as counted so far.
        row_bytes : float
            Bytes held for each row.
        extra : int
            Bytes of texts.
        """
        needed = math.ceil(rows * row_bytes) + extra
        if needed > self.rows:
            texts = f", {in_units(extra)} of them for texts" if extra > needed // 2 else ""
            raise InputError(
                f"{where}: labels, indices and names of {rows} rows need {in_units(needed)}{texts}, more than half of "
                f"data.memory_budget = {self.bytes // MIB} MiB. They cannot be streamed: {self.advice(needed, 2)}, or "
                "prepare fewer rows."
            )

    def refuse_work(self, what: str, needed: int, advice: str) -> None:
        """Raise an `InputError` if data that are unpacked or decoded in one piece need more than the share for work.

        Parameters
        ----------
        what : str
            File and part: the beginning of the message.
        needed : int
            Bytes needed, working copies included.
        advice : str
            What helps other than a larger budget.
        """
        if needed > self.work:
            raise InputError(
                f"{what}: this needs {in_units(needed)}, more than a quarter of data.memory_budget = "
                f"{self.bytes // MIB} MiB. {self.advice(needed).capitalize()}, or {advice}."
            )

    def advice(self, needed: int, times: int = 4) -> str:
        """Return the advice to set a budget that is `times` as large as these bytes."""
        return f"set data.memory_budget to at least {math.ceil(times * needed / MIB)}"


def in_units(size: int) -> str:
    """Return a number of bytes as text in MiB."""
    return f"{size / MIB:.3g} MiB" if size < 1000 * MIB else f"{size / MIB:.0f} MiB"


def block_bytes(row_bytes: int, cores: int) -> int:
    """Return the bytes of the blocks that are always held: fitted rows and queries in float64, or rows to write."""
    fitted = 3 * max(FITTED_BYTES, 2 * row_bytes)
    queries = 3 * cores * max(QUERY_BYTES, row_bytes)
    writing = 6 * max(WRITE_BYTES, row_bytes)
    return max(fitted + queries, writing)


def refuse_bomb(where: str, declared: int, stored: int) -> None:
    """Raise an `InputError` if compressed content declares more bytes than it can expand to.

    Parameters
    ----------
    where : str
        File and part.
    declared, stored : int
        Bytes after and before decompression.
    """
    if declared > DEFLATE_RATIO * stored + DEFLATE_RATIO:
        raise InputError(
            f"{where}: damaged or cut short: its header declares {declared} bytes, and its {stored} packed bytes "
            "cannot hold them. Save or fetch it again."
        )

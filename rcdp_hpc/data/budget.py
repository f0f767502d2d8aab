"""How much memory preparation may hold at once (``data.memory_budget``), and the refusal of what needs more.

A quarter is for samples of the source and a quarter for samples that balancing holds. Half is for what is kept of every
row: labels, indices, names. While the source is read, when nothing is balanced yet, a quarter is for work: a chunk, a
page, a line, an image while it is decoded. What belongs to a share is compared with it as soon as its size is declared
or counted, before it is allocated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rcdp_hpc.config import DataSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.ram import MIB

# Blocks never depend on the budget, so that results do not either.
QUERY_BYTES = 2**23
FITTED_BYTES = 2**25
WRITE_BYTES = 2**20
# A share for rows or for work has at least these bytes, however small the budget is.
LEAST_SHARE = 2**26
# Bytes that are kept for a sample of the source (label, class, split), and for a row of the shards (what it is made of,
# its order), working copies included. Measured: 60 for a sample that is one row, 55 for each synthetic row.
SAMPLE_BYTES = 32
SHARD_ROW_BYTES = 56
# A Python string and its place in a list, without its letters.
TEXT_BYTES = 64
# Deflate packs at most 1032 bytes into one.
DEFLATE_RATIO = 1032


@dataclass(frozen=True)
class Budget:
    """Bytes that preparation may hold, beyond those of the process and its libraries.

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
        """Bytes of a source that is held whole. Beyond this it is read from its file, or from a temporary file."""
        return self.bytes // 4

    @property
    def held(self) -> int:
        """Bytes of samples that balancing holds, of one class or, for methods that need them all, of all."""
        return self.bytes // 4

    @property
    def rows(self) -> int:
        """Bytes of labels, indices and names, all rows together."""
        return max(self.bytes // 2, LEAST_SHARE)

    @property
    def work(self) -> int:
        """Bytes of what is unpacked, decoded or parsed at once."""
        return max(self.bytes // 4, LEAST_SHARE)

    def refuse_wide_rows(self, row_bytes: int, cores: int) -> None:
        """Raise an `InputError` where not even one block of rows fits.

        Parameters
        ----------
        row_bytes : int
            Bytes of a sample in float32.
        cores : int
            Blocks that are worked on at once.
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
            How many, as a header declares or as far as they are counted.
        row_bytes : float
            Bytes that are kept for each.
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
        """Raise an `InputError` if something that is unpacked or decoded whole needs more than the share for work.

        Parameters
        ----------
        what : str
            File and part, and that it is worked on whole: the beginning of the message.
        needed : int
            Bytes it takes, working copies included.
        advice : str
            What helps besides a larger budget.
        """
        if needed > self.work:
            raise InputError(
                f"{what}: this needs {in_units(needed)}, more than a quarter of data.memory_budget = "
                f"{self.bytes // MIB} MiB. {self.advice(needed).capitalize()}, or {advice}."
            )

    def advice(self, needed: int, times: int = 4) -> str:
        """Return the setting of which these bytes are a share: a quarter, or another part."""
        return f"set data.memory_budget to at least {math.ceil(times * needed / MIB)}"


def in_units(size: int) -> str:
    """Return bytes as MiB for a message."""
    return f"{size / MIB:.3g} MiB" if size < 1000 * MIB else f"{size / MIB:.0f} MiB"


def block_bytes(row_bytes: int, cores: int) -> int:
    """Return what the blocks that are always held take: fitted rows and queries in float64, rows being written."""
    fitted = 3 * max(FITTED_BYTES, 2 * row_bytes)
    queries = 3 * cores * max(QUERY_BYTES, row_bytes)
    writing = 6 * max(WRITE_BYTES, row_bytes)
    return max(fitted + queries, writing)


def refuse_bomb(where: str, declared: int, stored: int) -> None:
    """Raise an `InputError` if deflated content declares more bytes than it can hold.

    Parameters
    ----------
    where : str
        File and part.
    declared, stored : int
        Bytes unpacked and packed.
    """
    if declared > DEFLATE_RATIO * stored + DEFLATE_RATIO:
        raise InputError(
            f"{where}: damaged or cut short: its header declares {declared} bytes, and its {stored} packed bytes "
            "cannot hold them. Save or fetch it again."
        )

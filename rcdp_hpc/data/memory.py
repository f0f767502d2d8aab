"""How much of the samples preparation holds at once (``data.memory_budget``)."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config import DataSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.memory import MIB

# Blocks never depend on the budget, so that results do not either.
QUERY_BYTES = 2**23
FITTED_BYTES = 2**25
WRITE_BYTES = 2**20


@dataclass(frozen=True)
class Budget:
    """Bytes of samples that may be held.

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
        """Bytes of a source that is held whole: beyond this it is read where it lies, or from a temporary file."""
        return self.bytes // 4

    @property
    def held(self) -> int:
        """Bytes of samples that balancing holds, of one class or, for methods that need them all, of all."""
        return self.bytes // 4

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
                f"data.memory_budget = {self.bytes // MIB} MiB cannot hold one block of rows (a sample has "
                f"{row_bytes / MIB:.3g} MiB): at least {-(-needed // MIB)} MiB are needed."
            )


def block_bytes(row_bytes: int, cores: int) -> int:
    """Return what the blocks that are always held take: fitted rows and queries in float64, rows being written."""
    fitted = 3 * max(FITTED_BYTES, 2 * row_bytes)
    queries = 3 * cores * max(QUERY_BYTES, row_bytes)
    writing = 6 * max(WRITE_BYTES, row_bytes)
    return max(fitted + queries, writing)

"""Collect series of unequal length while they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.data import FILLS
from rcdp_hpc.data.balancing.lengths import lengths_if_padded
from rcdp_hpc.data.sources.array_numbers import FLOAT32_MAX
from rcdp_hpc.data.sources.base import NewSamples, Part
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.gaps import MISSING_ADVICE, NAMED
from rcdp_hpc.data.sources.rows import RaggedRows, Spool
from rcdp_hpc.errors import InputError


class SeriesCollector:
    """Collects series, and treats missing values by ``data.missing``.

    Parameters
    ----------
    where : str
        The file or folder, for messages.
    room : int
        Bytes that may be held in memory; more goes to a temporary file.
    missing : {"refuse", "drop", "mean", "median", "constant"}
        ``data.missing``. Steps of NaN at the end of a series are not read in any case.
    findings : Findings
        Receives what was left out.
    """

    def __init__(self, where: str, room: int, missing: str, findings: Findings) -> None:
        self._where = where
        self._room = room
        self._missing = missing
        self._findings = findings
        self._spool: Spool | None = None
        self._gaps: Counter[int] = Counter()
        self._samples_with_gaps = 0
        self._first_gap = ""
        self._shortened = 0
        self.seen = 0
        self.features = 0
        self.lengths: list[int] = []

    def add(self, block: NDArray[np.float64], where: str) -> bool:
        """Add a series, shape (steps, features).

        Parameters
        ----------
        block : ndarray of float64
        where : str
            The file or line of the series, for messages.

        Returns
        -------
        bool
            Whether the series is used.

        Raises
        ------
        InputError
            If the number of features differs from that of the first series, or a value is infinite.
        """
        self.seen += 1
        if self._spool is None:
            self.features = block.shape[1]
            self._spool = Spool((self.features,), np.dtype(np.float64), self._room)
        if block.shape[1] != self.features:
            raise InputError(f"{where}: {block.shape[1]} dimensions, {self.features} in the first series.")
        if (np.abs(block) > FLOAT32_MAX).any():
            raise InputError(f"{where}: infinity or a number too large for float32.")
        nan = np.isnan(block)
        if nan.any():
            block = self._without_end(block, nan)
            nan = nan[: len(block)]
        if (nan.any() or not len(block)) and not self._keep_gaps(nan, where):
            return False
        self._spool.add(block)
        self.lengths.append(len(block))
        return True

    def leave_out(self, what: str, where: str) -> None:
        """Count a series that is not read."""
        self.seen += 1
        self._findings.leave_out(what, example=where)

    def finish(self) -> None:
        """Raise an `InputError` if values are missing and ``data.missing`` is "refuse", or if no series is left."""
        if self._samples_with_gaps and self._missing == "refuse":
            counts = ", ".join(f"{feature}: {count}" for feature, count in sorted(self._gaps.items())[:NAMED])
            more = ", ..." if len(self._gaps) > NAMED else ""
            raise InputError(
                f"{self._where}: {sum(self._gaps.values())} missing values in {self._samples_with_gaps} of {self.seen} "
                f"series, first in {self._first_gap}; values by feature: {counts}{more}. {MISSING_ADVICE}"
            )
        if self._gaps and self._missing in FILLS:
            self._findings.assumed.append(
                f"{self._where}: {sum(self._gaps.values())} missing values in {self._samples_with_gaps} of {self.seen} "
                f"series are filled (data.missing = {self._missing!r})"
            )
        if self._shortened:
            self._findings.assumed.append(
                f"{self._where}: steps of missing values at the end of {self._shortened} series are not read"
            )
        if not self.lengths:
            left = "" if not self.seen else ": data.missing = 'drop' leaves none"
            raise InputError(f"{self._where}: holds no series{left}.")

    def rows(self, longest: int) -> RaggedRows:
        """Return all series, padded to `longest` steps."""
        assert self._spool is not None
        lengths = np.array(self.lengths, np.int64)
        return RaggedRows(self._spool.finish(), np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths, longest)

    def part(self, y: NDArray[np.int64], longest: int, unequal: bool, ids: Sequence[str] | None = None) -> Part:
        """Return the series with their labels."""
        return Part(self.rows(longest), y, np.array(self.lengths, np.int64) if unequal else None, ids)

    def new_samples(self, longest: int, ids: list[str] | None, id_name: str) -> NewSamples:
        """Return the series as new samples, padded to at least `longest` steps; see `NewSamples`."""
        lengths = np.array(self.lengths, np.int64)
        rows = self.rows(max(longest, int(lengths.max())))
        return NewSamples(rows, lengths_if_padded(lengths, longest), ids, id_name, self._findings)

    def _without_end(self, block: NDArray[np.float64], nan: NDArray[np.bool_]) -> NDArray[np.float64]:
        held = np.flatnonzero(~nan.all(axis=1))
        steps = int(held[-1]) + 1 if len(held) else 0
        self._shortened += bool(0 < steps < len(block))
        return block[:steps]

    def _keep_gaps(self, nan: NDArray[np.bool_], where: str) -> bool:
        """Record a series with missing values, and return whether it is used."""
        if not len(nan) and self._missing != "drop":
            raise InputError(f"{where}: a series without a value. Remove it, or set data.missing = 'drop'.")
        if self._missing == "drop":
            self._findings.leave_out("series with missing values (data.missing = 'drop')", example=where)
            return False
        step, feature = (int(place) for place in np.argwhere(nan)[0])
        self._first_gap = self._first_gap or f"{where}, step {step}, feature {feature}"
        self._samples_with_gaps += 1
        self._gaps.update({int(feature): int(count) for feature, count in enumerate(nan.sum(0)) if count})
        return True

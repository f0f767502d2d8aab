"""Missing values (NaN) in arrays of samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.data import FILLS
from rcdp_hpc.data.sources.base import Samples, blocks
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.padding import PaddedRows, selected
from rcdp_hpc.errors import InputError

MISSING_ADVICE = (
    "Complete them, leave these samples out with data.missing = 'drop', or fill them with data.missing = 'median', "
    "'mean' or 'constant'."
)
NAMED = 5


@dataclass(eq=False)
class Gaps:
    """Places of the missing values (NaN) of an array.

    Attributes
    ----------
    ends : ndarray of int64, shape (N,)
        Steps of each sample up to the last step with a value.
    counts : ndarray of int64, shape (N,)
        Number of NaN in each sample, including those after its end.
    sample_shape : tuple of int
        Shape of one sample.
    """

    ends: NDArray[np.int64]
    counts: NDArray[np.int64]
    sample_shape: tuple[int, ...]

    def select(self, places: NDArray[np.int64]) -> Gaps:
        """Return the gaps of some samples."""
        return Gaps(self.ends[places], self.counts[places], self.sample_shape)

    def with_features(self) -> Gaps:
        """Return the gaps of the same samples with an additional last axis of one feature."""
        return Gaps(self.ends, self.counts, (*self.sample_shape, 1))

    def within(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of missing values of each sample before its end, if all values after it are NaN."""
        steps, features = self.sample_shape[0], math.prod(self.sample_shape[1:])
        return self.counts - (steps - lengths) * features


def find_gaps(x: Samples) -> Gaps | None:
    """Search an array of floats for NaN, block by block.

    Returns
    -------
    Gaps or None
        None if there is no NaN.
    """
    total, steps = x.shape[0], x.shape[1]
    gaps = Gaps(np.full(total, steps), np.zeros(total, np.int64), x.shape[1:])
    start = 0
    for block in blocks(x):
        nan = np.isnan(block)
        rows = slice(start, start + len(block))
        start += len(block)
        if nan.any():
            values = ~nan.reshape(len(block), steps, -1).all(axis=2)
            gaps.ends[rows] = np.where(values.any(1), steps - np.argmax(values[:, ::-1], axis=1), 0)
            gaps.counts[rows] = nan.reshape(len(block), -1).sum(1)
    return gaps if gaps.counts.any() else None


def without_gaps(
    where: str,
    x: Samples,
    lengths: NDArray[np.int64] | None,
    counts: NDArray[np.int64],
    missing: str,
    findings: Findings,
) -> NDArray[np.bool_]:
    """Refuse, leave out or accept samples with missing values, as ``data.missing`` says.

    Parameters
    ----------
    where : str
        File and key, for messages.
    x : Samples
    lengths : ndarray of int64, shape (N,), or None
        Steps of padded series.
    counts : ndarray of int64, shape (N,)
        Number of missing values of each sample before its end.
    missing : {"refuse", "drop", "mean", "median", "constant"}
    findings : Findings

    Returns
    -------
    ndarray of bool, shape (N,)
        Whether a sample is used.

    Raises
    ------
    InputError
        If values are missing and `missing` is "refuse", or all values of a series are missing.
    """
    empty = np.zeros(len(counts), bool) if lengths is None else lengths == 0
    if missing != "drop" and empty.any():
        raise InputError(
            f"{where}: {np.count_nonzero(empty)} series hold only NaN, first in row {int(np.argmax(empty))} (from 0). "
            "Remove them, or leave them out with data.missing = 'drop'."
        )
    affected = empty | (counts > 0)
    if not affected.any():
        return ~affected
    if missing == "refuse":
        raise InputError(f"{where}: {describe_gaps(x, lengths, counts)}. {MISSING_ADVICE}")
    if missing in FILLS:
        findings.assumed.append(
            f"{where}: {describe_gaps(x, lengths, counts)}; they are filled (data.missing = {missing!r})"
        )
        return np.ones(len(affected), bool)
    leave_out_rows("samples with missing values (data.missing = 'drop')", affected, findings)
    return ~affected


def leave_out_rows(what: str, affected: NDArray[np.bool_], findings: Findings) -> None:
    """Record rows that are left out, with the numbers of the first ones."""
    rows = np.flatnonzero(affected)
    for row in rows[:NAMED].tolist():
        findings.leave_out(what, example=f"row {row}")
    findings.leave_out(what, len(rows) - len(rows[:NAMED]))


def describe_gaps(x: Samples, lengths: NDArray[np.int64] | None, counts: NDArray[np.int64]) -> str:
    """Return a sentence with the place of the first missing value and the number of missing values by feature.

    Parameters
    ----------
    x : Samples
    lengths : ndarray of int64, shape (N,), or None
        Steps of padded series.
    counts : ndarray of int64, shape (N,)
        Number of missing values of each sample.
    """
    row = int(np.argmax(counts > 0))
    sample = np.asarray(x[row : row + 1])[0]
    held = sample if lengths is None else sample[: lengths[row]]
    place = tuple(int(index) for index in np.argwhere(np.isnan(held))[0])
    affected = int(np.count_nonzero(counts))
    text = (
        f"{int(counts.sum())} missing values (NaN) in {affected} of {len(counts)} samples, first in row {row} "
        f"(from 0), {place_name(place)}"
    )
    features = _by_feature(x, lengths, counts)
    if len(features) > 1:
        named = [f"{feature}: {count}" for feature, count in features[:NAMED]]
        more = ", ..." if len(features) > NAMED else ""
        text += f"; values by feature: {', '.join(named)}{more}"
    return text


def place_name(place: tuple[int, ...]) -> str:
    """Return the place of a value in a sample as text."""
    if len(place) == 1:
        return f"feature {place[0]}"
    if len(place) == 2:
        return f"step {place[0]}, feature {place[1]}"
    return f"place {place}"


def _by_feature(x: Samples, lengths: NDArray[np.int64] | None, counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Return the features (last axis) with missing values, and their number for each."""
    total = np.zeros(x.shape[-1], np.int64)
    rows = np.flatnonzero(counts)
    for block in blocks(selected(x if lengths is None else PaddedRows(x, lengths, x.shape[1]), rows)):
        total += np.isnan(block).reshape(-1, x.shape[-1]).sum(0)
    return [(int(feature), int(total[feature])) for feature in np.flatnonzero(total)]

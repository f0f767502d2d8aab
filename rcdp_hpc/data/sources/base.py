"""The result of every source: labelled samples in the number format of their files, and how to scale them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataFacts
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.group_names import GroupNames
from rcdp_hpc.data.standardization import Standardization
from rcdp_hpc.errors import InputError

BLOCK_BYTES = 2**24


class Samples(Protocol):
    """Samples that are read by their index: a NumPy array, or an object that reads rows from files."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of samples, then the shape of one sample."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format."""

    def __getitem__(self, rows: Any, /) -> Any:
        """Return the samples of a slice or of an int64 array of indices, as a NumPy array."""


@dataclass(frozen=True, eq=False)
class Part:
    """The training or the test set of a source.

    Attributes
    ----------
    x : Samples, shape (N, *sample_shape)
        Raw samples, in the number format of the source (uint8 stays uint8).
    y : ndarray of int64, shape (N,)
        Class indices 0 to C - 1.
    lengths : ndarray of int64, shape (N,), or None
        Number of steps of each sample that hold data (along its first axis); later steps are padding. None if no
        sample is padded.
    ids : sequence of str, or None
        Name of each sample in its source: a file, a sequence, a row id; None if samples have only numbers.
    groups : GroupNames or None
        The patient, subject or site of each sample; None if samples have no groups. After preparation has joined them
        (`rcdp_hpc.data.groups`), both parts have the same names.
    """

    x: Samples
    y: NDArray[np.int64]
    lengths: NDArray[np.int64] | None = None
    ids: Sequence[str] | None = None
    groups: GroupNames | None = None

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class NewSamples:
    """Samples without labels, for prediction.

    Attributes
    ----------
    x : Samples, shape (N, *sample_shape)
        Raw samples, in the number format of the file.
    lengths : ndarray of int64, shape (N,), or None
        Number of steps of each padded series; None if no sample is padded.
    ids : sequence of str, or None
        Name of each sample: its file, sequence or row id; None if samples have only numbers.
    id_name : str
        Header for a column of `ids`: "file", "sequence" or the name of a column.
    findings : Findings
        Assumptions, omissions and warnings of the reader; prediction logs them once.
    """

    x: Samples
    lengths: NDArray[np.int64] | None = None
    ids: Sequence[str] | None = None
    id_name: str = "sample"
    findings: Findings = field(default_factory=Findings)

    def __len__(self) -> int:
        return int(self.x.shape[0])


@dataclass(frozen=True)
class Columns:
    """The map from the columns of a table to the numbers of a sample.

    Attributes
    ----------
    features : list of str
        Names of the columns, in the order of a sample's numbers.
    categories : dict of str to list of str
        The texts of each column of categories; the number of a text is its index.
    most_frequent : dict of str to str
        The most frequent text of each column of categories.
    row_names : str
        Column that was left out because it names the rows; empty if there is none.
    """

    features: list[str]
    categories: dict[str, list[str]]
    most_frequent: dict[str, str] = field(default_factory=dict)
    row_names: str = ""


@dataclass(frozen=True, eq=False)
class Source:
    """Labelled raw data before preparation.

    Indices of samples in the source count through `train` and then through `test`.

    Attributes
    ----------
    name : str
        Kind of source, as in ``data.source``.
    classes : list of str
        Names of the classes, in the order of their indices. Each class has a sample in `train`.
    train : Part
        Samples to split into training and validation, and into a test part if `test` is None.
    test : Part or None
        The separate test set of the source, if it has one.
    scale : float
        Value of a sample = raw number * scale.
    description : str
        One line for the log.
    categories : tuple of int
        Indices of the features (of a flattened sample) that hold categories as numbers.
    columns : Columns or None
        Columns of a table; None for other data.
    kind : {"table", "series", "images"} or ""
        Kind of data, if the reader determines it. Otherwise `open_source` sets it.
    findings : Findings
        Assumptions, omissions and warnings of the reader.
    standardization : Standardization or None
        Map of raw values, after preparation has fitted it (`rcdp_hpc.data.fit_standardization`).
    mask_channels : int
        Last entries of a raw sample's last axis that are mask channels already: of samples that are read from shards.
    """

    name: str
    classes: list[str]
    train: Part
    test: Part | None
    scale: float
    description: str
    categories: tuple[int, ...] = ()
    columns: Columns | None = None
    kind: str = ""
    findings: Findings = field(default_factory=Findings)
    standardization: Standardization | None = None
    mask_channels: int = 0

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Shape of one raw sample."""
        return tuple(int(length) for length in self.train.x.shape[1:])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample as `samples` returns it: with the mask channels of missing values, if it has any."""
        return self.raw_shape if self.standardization is None else self.standardization.stored_shape(self.raw_shape)

    @property
    def masked(self) -> slice:
        """The mask channels among the entries of a sample's last axis."""
        return slice(self.raw_shape[-1] - self.mask_channels, None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number format of the raw samples."""
        return self.train.x.dtype

    @property
    def facts(self) -> DataFacts:
        """Facts from which the defaults of other settings follow."""
        return DataFacts(self.kind, self.sample_shape, self.shortest)

    @property
    def has_lengths(self) -> bool:
        """Whether samples are padded sequences."""
        return self.train.lengths is not None

    @property
    def shortest(self) -> int | None:
        """Steps of the shortest sequence of both parts; None if samples have no lengths."""
        parts = (self.train, self.test)
        shortest = [int(part.lengths.min()) for part in parts if part is not None and part.lengths is not None]
        return min(shortest, default=None)

    def samples(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return samples by their index in the source, scaled and standardised.

        Parameters
        ----------
        indices : ndarray of int64, shape (n,)
            Indices of samples of one part: either of `train` or of `test`.

        Returns
        -------
        ndarray of float32, shape (n, *sample_shape)

        Raises
        ------
        InputError
            If a value is not finite in float32.
        """
        part, rows = self._rows(indices)
        raw = part.x[rows]
        if self.standardization is None:
            x = to_float(raw, self.scale)
        else:
            x = self.standardization.apply(raw, self.scale, None if part.lengths is None else part.lengths[rows])
        if raw.dtype.kind == "f":
            finite = np.isfinite(x.reshape(len(x), -1)).all(axis=1)
            if not finite.all():
                raise InputError(
                    f"{self.description}: NaN, infinity or a number too large for float32 in sample "
                    f"{rows[int(np.argmin(finite))]} of the {'training' if part is self.train else 'test'} data."
                )
        return x

    def lengths(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the lengths of samples by their index in the source; None if no sample is padded."""
        part, rows = self._rows(indices)
        return None if part.lengths is None else part.lengths[rows]

    @property
    def has_groups(self) -> bool:
        """Whether the samples have groups."""
        return self.train.groups is not None

    def groups(self, indices: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the group of samples by their index in the source, -1 if it is unknown; None without groups."""
        part, rows = self._rows(indices)
        if not self.has_groups:
            return None
        return np.full(len(rows), -1, np.int64) if part.groups is None else part.groups.codes[rows]

    def fingerprint(self) -> str:
        """Return the SHA-256 of samples, labels and class names, which identifies the source."""
        digest = hashlib.sha256(repr((self.classes, self.scale)).encode())
        for part in (self.train, self.test):
            if part is not None:
                digest.update(repr((part.x.shape, part.x.dtype.str)).encode())
                for block in blocks(part.x):
                    digest.update(np.ascontiguousarray(block).data)
                codes = () if part.groups is None else (part.groups.codes,)
                for array in (part.y, part.lengths, *codes):
                    if array is not None:
                        digest.update(repr((array.shape, array.dtype.str)).encode())
                        digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _rows(self, indices: NDArray[np.int64]) -> tuple[Part, NDArray[np.int64]]:
        if self.test is not None and len(indices) and indices[0] >= len(self.train):
            return self.test, indices - len(self.train)
        return self.train, indices


def joined(source: Source, longest: int) -> NewSamples:
    """Return the training samples and then the test samples of a source as new samples, padded to `longest` steps.

    Parameters
    ----------
    source : Source
    longest : int
        Steps to which shorter sequences are padded.
    """
    parts = [part for part in (source.train, source.test) if part is not None]
    steps = max(longest, source.raw_shape[0]) if source.has_lengths else source.raw_shape[0]
    lengths = [part.lengths for part in parts if part.lengths is not None]
    has_names = all(part.ids is not None for part in parts)
    return NewSamples(
        JoinedRows([part.x for part in parts], steps),
        np.concatenate(lengths) if lengths else None,
        ids=[name for part in parts for name in part.ids or ()] if has_names else None,
        findings=source.findings,
    )


class JoinedRows:
    """The samples of several parts, one part after the other.

    Parameters
    ----------
    parts : list of Samples
        Parts with the same number format and, except for the steps, the same shape.
    steps : int
        Length of a sample's first axis; shorter samples are padded with zeros.
    """

    def __init__(self, parts: list[Samples], steps: int) -> None:
        self._parts = parts
        self.shape: tuple[int, ...] = (sum(part.shape[0] for part in parts), steps, *parts[0].shape[2:])
        self.dtype = parts[0].dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(self.shape[0])
        result = np.zeros((max(0, stop - start), *self.shape[1:]), self.dtype)
        first = 0
        for part in self._parts:
            low, high = max(start, first), min(stop, first + part.shape[0])
            if low < high:
                samples = part[low - first : high - first]
                result[low - start : high - start, : samples.shape[1]] = samples
            first += part.shape[0]
        return result


def blocks(x: Samples) -> Iterator[NDArray[Any]]:
    """Yield the samples in blocks, in order."""
    rows = max(1, BLOCK_BYTES // row_bytes(x))
    for start in range(0, x.shape[0], rows):
        yield x[start : start + rows]


def row_bytes(x: Samples) -> int:
    """Return the number of bytes of one sample."""
    return max(1, math.prod(x.shape[1:]) * x.dtype.itemsize)


def to_float(x: NDArray[Any], scale: float) -> NDArray[np.float32]:
    """Return raw * scale as float32: the only conversion of raw samples to numbers for the network."""
    with np.errstate(over="ignore"):
        return np.multiply(x, np.float32(scale), dtype=np.float32, casting="unsafe")


def default_scale(dtype: np.dtype[Any]) -> float:
    """Return the scale of a number format: 1/255 for bytes, which are image intensities 0 to 255; otherwise 1."""
    return 1.0 / 255.0 if dtype == np.uint8 else 1.0

"""What a source reader is asked for: labelled samples to prepare, or new samples to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.arrays import samples_of, source_of
from rcdp_hpc.data.sources.base import Columns, NewSamples, Source
from rcdp_hpc.data.sources.findings import Findings

if TYPE_CHECKING:
    from rcdp_hpc.data.sources.in_memory import LabelledArrays


@dataclass(frozen=True)
class SourceRequest:
    """A request for labelled samples.

    Attributes
    ----------
    path : Path
        ``data.path``: a file or folder.
    data : DataSection
        The section ``[data]``.
    progress : bool
        Whether to show progress while every sample is read.
    arrays : LabelledArrays or None
        Samples in memory, for ``data.source = "arrays"``.
    """

    path: Path
    data: DataSection
    progress: bool = False
    arrays: LabelledArrays | None = None

    @property
    def budget(self) -> Budget:
        """The memory that the source may use."""
        return Budget.of(self.data)

    def from_arrays(self, **arrays: Any) -> Source:
        """Return a source made of arrays in memory, with the checks that every array file gets.

        Parameters
        ----------
        **arrays : array_like
            ``x``, shape (N, *sample_shape), numbers; ``y``, shape (N,), labels (numbers or texts). Optional:
            ``lengths``, shape (N,), the steps of each padded series; ``ids``, shape (N,), the name of each sample;
            ``groups``, shape (N,), the patient, subject or site of each sample; for a separate test set, ``x_test``,
            ``y_test``, ``lengths_test``, ``ids_test`` and ``groups_test``.

        Raises
        ------
        InputError
            If an array is missing, holds invalid values or does not match the others.
        """
        return source_of(self.data.source, self.path, as_arrays(arrays), self.data, Findings())


@dataclass(frozen=True)
class SampleRequest:
    """A request for new samples, which need no labels.

    Attributes
    ----------
    path : Path
        The file or folder of the new samples.
    data : DataSection
        The settings with which the training data were read.
    longest : int
        Steps to which series are padded.
    columns : Columns or None
        Columns of the table that the model was trained on.
    shape : tuple of int
        Shape of the model's samples; empty if it is not known.
    """

    path: Path
    data: DataSection
    longest: int = 0
    columns: Columns | None = None
    shape: tuple[int, ...] = ()

    @property
    def budget(self) -> Budget:
        """The memory that the samples may use."""
        return Budget.of(self.data)

    def from_arrays(self, **arrays: Any) -> NewSamples:
        """Return new samples made of arrays in memory: ``x`` and, optionally, ``lengths`` and ``ids``.

        Shapes and errors are those of `SourceRequest.from_arrays`.
        """
        return samples_of(self.path, as_arrays(arrays), self.data, self.longest, Findings(), self.shape)


def as_arrays(values: dict[str, Any]) -> dict[str, Any]:
    """Return values as NumPy arrays; objects that have a shape and a dtype stay as they are."""
    return {
        name: value if hasattr(value, "shape") and hasattr(value, "dtype") else np.asarray(value)
        for name, value in values.items()
        if value is not None
    }

"""The interface of a file format of predictions, and the predictions that it writes."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Block:
    """Predictions of consecutive samples.

    Attributes
    ----------
    labels : ndarray of int64, shape (n,)
        Index of the class that is answered. It need not be the one with the largest probability.
    probabilities : ndarray of float32, shape (n, classes)
    disagreement : ndarray of float32, shape (n,), or None
        Disagreement of the members of an ensemble.
    """

    labels: NDArray[np.int64]
    probabilities: Probabilities
    disagreement: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.labels)


@dataclass(frozen=True)
class Predictions:
    """Predictions of all samples, in their order.

    Attributes
    ----------
    blocks : iterable of Block
        Consecutive samples. The blocks are computed while they are read, so they can be read once.
    rows : int
        Number of samples in all blocks together.
    classes : list of str
        Names of the classes.
    ids : sequence of str, or None
        Name of each sample, length `rows`; None if samples have only their numbers, from 0.
    id_name : str
        Header of the column of names: "file", "sequence", the name of a column, or "sample".
    kind : str
        What the probabilities are, for headers: "p" of the model itself, "calibrated_p", "p_at_priors" or
        "calibrated_p_at_priors".
    has_disagreement : bool
        Whether blocks have a disagreement.
    """

    blocks: Iterable[Block]
    rows: int
    classes: list[str]
    ids: Sequence[str] | None = None
    id_name: str = "sample"
    kind: str = "p"
    has_disagreement: bool = False

    def with_ids(self) -> Iterator[tuple[Sequence[str] | Sequence[int], Block]]:
        """Yield the names (or numbers) of the samples of each block, and the block."""
        first = 0
        for block in self.blocks:
            last = first + len(block)
            yield range(first, last) if self.ids is None else self.ids[first:last], block
            first = last

    @property
    def header(self) -> tuple[str, str, list[str]]:
        """Column names: of the samples, of the labels, and of the probabilities of each class.

        All are different: a column of ids named "label" becomes "sample_label".
        """
        columns = [f"{self.kind}_{name}" for name in self.classes]
        name = self.id_name
        return f"sample_{name}" if name in ("label", "disagreement", *columns) else name, "label", columns

    @property
    def probability_name(self) -> str:
        """The name of the probabilities where they are one field: "probability", "calibrated_probability" and so on."""
        return re.sub(r"(^|_)p(_|$)", r"\1probability\2", self.kind)


class OutputFormat(ABC):
    """A file format of predictions. Subclasses are instantiated without arguments, on rank 0."""

    @abstractmethod
    def write(self, file: BinaryIO, predictions: Predictions) -> None:
        """Write predictions to a file.

        The method is called twice: once with two made-up samples and a file in memory, before the prediction starts,
        and then with the predictions. The second file gets its name when it is complete.

        Parameters
        ----------
        file : binary file
            Empty and open for writing. The method leaves it open.
        predictions : Predictions
            The method reads all blocks.
        """

    def report(self, path: Path, predictions: Predictions) -> None:  # noqa: B027
        """Log what users of a complete file should know; by default nothing.

        Parameters
        ----------
        path : Path
            The complete file.
        predictions : Predictions
            As in `write`; the blocks can no longer be read.
        """


def printable(name: str) -> str:
    """Return a name in which bytes that are not UTF-8 are replaced by escape sequences."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

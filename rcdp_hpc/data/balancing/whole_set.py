"""Over-sampling methods that compare samples of several classes, and so need all training samples in memory."""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.balancing.base import BalancingTask, OverSampling, UnsuitedError
from rcdp_hpc.data.rows import RowTable, synthetic_rows
from rcdp_hpc.runtime.threads import limit_threads

BLOCK_BYTES = 2**25


class WholeSetOverSampling(OverSampling):
    """Runs one of imbalanced-learn's samplers on all training samples and records the samples that it combines."""

    def synthetic(self, task: BalancingTask) -> list[RowTable]:
        """Return the synthetic rows of each class that is below its target."""
        tables = self.combined_rows(
            task.flat_samples(),
            task.labels,
            task.targets,
            task.data.smote_neighbours,
            task.seed,
            task.source.categories,
        )
        return [
            RowTable(table.y, task.train[table.source], task.train[table.neighbour], table.step, table.values)
            for table in tables
        ]

    def combined_rows(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        targets: Sequence[int],
        neighbours: int,
        seed: int,
        categories: Sequence[int] = (),
    ) -> list[RowTable]:
        """Let imbalanced-learn make rows; return the samples of which each is made.

        Parameters
        ----------
        x : ndarray of float32, shape (N, width)
            All training samples, flattened.
        y : ndarray of int64, shape (N,)
            Their classes.
        targets : sequence of int
            Rows that each class should have.
        neighbours : int
            Nearest neighbours k.
        seed : int
            Seed of the random numbers.
        categories : sequence of int
            Features that hold categories.

        Returns
        -------
        list of RowTable
            One for each class that gets rows; ``source`` and ``neighbour`` are rows of `x`.

        Raises
        ------
        UnsuitedError
            If imbalanced-learn refuses the samples.
        """
        counts = np.bincount(y, minlength=len(targets))
        strategy = {label: target for label, target in enumerate(targets) if target > counts[label]}
        if not strategy:
            return []
        try:
            with limit_threads(1), np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
                warnings.filterwarnings("ignore", category=UserWarning)
                warnings.filterwarnings("ignore", category=FutureWarning)
                return self._resample(x, y, strategy, neighbours, seed, categories)
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UnsuitedError(f"does not suit these samples, imbalanced-learn refuses them ({reason})") from None

    @abstractmethod
    def _resample(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        strategy: Mapping[int, int],
        neighbours: int,
        seed: int,
        categories: Sequence[int],
    ) -> list[RowTable]:
        """Return the synthetic rows; `strategy` maps the classes that get rows to their targets."""


class Recording:
    """Records what each synthetic row is made of; mixed into imbalanced-learn's variants of SMOTE."""

    recipes: list[tuple[int, Any, Any, Any]]

    def _generate_samples(
        self, x: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, y_type: Any = None, y: Any = None
    ) -> Any:
        if len(rows):
            self.recipes.append((int(y_type), x[rows], nn_data[nn_num[rows, cols]], steps[:, 0]))
        return x[rows]


def recorded_rows(
    sampler: Any, x: NDArray[np.float32], y: NDArray[np.int64], strategy: Mapping[int, int]
) -> list[RowTable]:
    """Run a sampler that is mixed with `Recording`; return its synthetic rows as combinations of rows of `x`.

    Parameters
    ----------
    sampler : Recording and imblearn sampler
    x : ndarray of float32, shape (N, width)
    y : ndarray of int64, shape (N,)
    strategy : dict of int to int
        The classes that get rows, in the order of the result.
    """
    sampler.recipes = []
    sampler.fit_resample(x, y)
    tables = []
    for label in strategy:
        members = np.flatnonzero(y == label)
        # The sampler records copies of rows, not their numbers; of equal rows, the first one represents all.
        numbers = {row_digest(row): int(place) for place, row in zip(members[::-1], x[members[::-1]], strict=True)}
        for recipe_label, starts, ends, steps in sampler.recipes:
            if recipe_label == label:
                seeds, others = (
                    np.array([numbers[row_digest(row)] for row in rows], np.int64) for rows in (starts, ends)
                )
                others = other_than_itself(x, members, seeds, others)
                tables.append(synthetic_rows(label, seeds, others, steps.astype(np.float32)))
    return tables


def other_than_itself(
    x: NDArray[np.float32], members: NDArray[np.int64], source: NDArray[np.int64], neighbour: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the neighbours; one that is its own source is replaced by the nearest other sample of the class.

    imbalanced-learn assumes that the first nearest neighbour of a sample is the sample itself. If other samples are
    equal to it, the first may be one of them, and the sample occurs among its own neighbours.

    Parameters
    ----------
    x : ndarray of float32, shape (N, width)
    members : ndarray of int64
        The rows of the class, two or more.
    source, neighbour : ndarray of int64, shape (n,)
        Rows of `x`.

    Returns
    -------
    ndarray of int64, shape (n,)
    """
    result = neighbour.copy()
    affected = np.unique(source[source == neighbour]).tolist()
    if not affected:
        return result
    equal: dict[bytes, list[int]] = {}
    for place, row in zip(members.tolist(), x[members], strict=True):
        equal.setdefault(row_digest(row), []).append(place)
    for row in affected:
        twins = [place for place in equal[row_digest(x[row])][:2] if place != row]
        result[(source == row) & (neighbour == row)] = twins[0] if twins else _nearest_other(x, members, row)
    return result


def _nearest_other(x: NDArray[np.float32], members: NDArray[np.int64], row: int) -> int:
    """Return the row of a class that is nearest to another of its rows."""
    others = members[members != row]
    block = max(1, BLOCK_BYTES // (8 * x.shape[1]))
    distance = [
        np.square(x[others[start : start + block]] - x[row], dtype=np.float64).sum(axis=1)
        for start in range(0, len(others), block)
    ]
    return int(others[np.argmin(np.concatenate(distance))])


def row_digest(row: NDArray[np.float32]) -> bytes:
    """Return a digest of the bits of a row."""
    return hashlib.blake2b(np.ascontiguousarray(row, np.float32).data, digest_size=16).digest()


class RecordedOverSampling(WholeSetOverSampling):
    """A variant of SMOTE by imbalanced-learn, one call for all classes.

    Attributes
    ----------
    sampler : type
        A sampler of imbalanced-learn, mixed with `Recording`.
    """

    sampler: ClassVar[type[Any]]

    def _resample(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.int64],
        strategy: Mapping[int, int],
        neighbours: int,
        seed: int,
        categories: Sequence[int],
    ) -> list[RowTable]:
        sampler = self.sampler(sampling_strategy=dict(strategy), k_neighbors=neighbours, random_state=seed)
        return recorded_rows(sampler, x, y, strategy)

"""A balancing class of the user's own, or of imbalanced-learn: any class with ``fit_resample``."""

from __future__ import annotations

import inspect
import logging
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from rcdp_hpc.data.balancing.base import BalancingMethod, BalancingTask
from rcdp_hpc.data.balancing.lengths import resample_steps
from rcdp_hpc.data.balancing.whole_set import row_digest
from rcdp_hpc.data.class_table import named
from rcdp_hpc.data.rows import RowTable
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.threads import limit_threads

log = logging.getLogger(__name__)

Targets = Literal["more", "fewer", "any", "none"]
# imbalanced-learn's base classes define what ``sampling_strategy`` means. They are named here, not imported: a class
# that derives from one of them has imported it.
_TARGETS_OF_BASE: dict[str, Targets] = {
    "imblearn.over_sampling.base.BaseOverSampler": "more",
    "imblearn.under_sampling.base.BaseUnderSampler": "fewer",
    "imblearn.under_sampling.base.BaseCleaningSampler": "none",
}
CONTRACT = "expected a class with a method fit_resample(x, y) that returns x and y (docs/extending.md)"


class Resampler(Protocol):
    """The contract of a class that ``data.balance`` names as ``module:Class``; imbalanced-learn's samplers fulfil it.

    The class is created with those of the following keyword arguments that its constructor names:

    - ``sampling_strategy`` : dict of int to int, the rows that each class should have, without the classes that have
      them already. Classes that derive from imbalanced-learn's cleaning samplers do not get it.
    - ``random_state`` : int, the seed. The same seed has to give the same rows.
    - ``k_neighbors`` : int, ``data.smote_neighbours``.
    - ``categorical_features`` : list of int, the features that hold categories (``data.category_columns``).
    """

    def fit_resample(
        self, x: NDArray[np.float32], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]]]:
        """Return the training rows after balancing.

        Parameters
        ----------
        x : ndarray of float32, shape (N, width)
            All training samples, standardised and flattened; series of unequal length are resampled to the longest.
        y : ndarray of int64, shape (N,)
            Their classes, 0 to C - 1.

        Returns
        -------
        x : array_like of float, shape (M, width)
            Finite values. A row that equals a training sample of its class is that sample, or a copy of it if it is
            returned again; every other row is synthetic. A feature that holds categories may have only values that
            occur in `x`.
        y : array_like of int, shape (M,)
            Their classes. Every class of the training samples has to keep a row.
        """


class UserMethod(BalancingMethod):
    """Runs a `Resampler` and finds the origin of each row that it returns.

    Parameters
    ----------
    name : str
        ``module:Class``, for messages.
    resampler_class : type

    Raises
    ------
    InputError
        If the class has no method ``fit_resample``.
    """

    def __init__(self, name: str, resampler_class: Any) -> None:
        if not (isinstance(resampler_class, type) and callable(getattr(resampler_class, "fit_resample", None))):
            kind = "a class without it" if isinstance(resampler_class, type) else type(resampler_class).__name__
            raise InputError(f"data.balance = {name!r}: {CONTRACT}, but it is {kind}")
        self.name = name
        self.resampler_class = resampler_class

    @property
    def targets(self) -> Targets:
        """Which numbers of rows the class can reach, as in `rcdp_hpc.config.choices.BalancingChoice`."""
        bases = [f"{base.__module__}.{base.__qualname__}" for base in self.resampler_class.__mro__]
        return next((_TARGETS_OF_BASE[base] for base in bases if base in _TARGETS_OF_BASE), "any")

    def rows(self, task: BalancingTask) -> RowTable:
        """Return the rows of the resampler: training samples first, then copies and synthetic rows.

        The ``source`` of a synthetic row is the nearest training sample of its class; its ``neighbour`` is the same
        sample.

        Raises
        ------
        InputError
            If the class breaks its contract.
        """
        x = task.flat_samples()
        resampled, labels = self._resampled(x, task)
        self._refuse_unknown_categories(x, resampled, task)
        rows = _row_table(task, x, resampled, labels)
        self._report(task, rows)
        return rows

    def _resampled(self, x: NDArray[np.float32], task: BalancingTask) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        resampler = self._created(task)
        # Copies, because a resampler may change its input, and its rows are compared with x.
        x_input = x.copy()
        y_input = task.labels.copy()
        try:
            with limit_threads(1):
                result = resampler.fit_resample(x_input, y_input)
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # a user's class may raise anything
            reason = " ".join(str(error).split()).rstrip(".")
            raise self._broken(f"fit_resample failed ({type(error).__name__}: {reason})") from None
        if not (isinstance(result, tuple | list) and len(result) == 2):
            raise self._broken(f"fit_resample returned {type(result).__name__}, expected two arrays, x and y")
        return self._checked_rows(result[0], x.shape[1]), self._checked_labels(result[1], result[0], task)

    def _created(self, task: BalancingTask) -> Any:
        counts = [len(indices) for indices in task.members]
        arguments: dict[str, Any] = {
            "random_state": task.seed,
            "k_neighbors": task.data.smote_neighbours,
            "categorical_features": list(task.source.categories),
        }
        if self.targets != "none":
            pairs = zip(counts, task.targets, strict=True)
            arguments["sampling_strategy"] = {
                label: target for label, (count, target) in enumerate(pairs) if target != count
            }
        try:
            accepted = inspect.signature(self.resampler_class).parameters
        except (TypeError, ValueError):
            accepted = {}  # type: ignore[assignment]
        keywords = {key: value for key, value in arguments.items() if key in accepted}
        try:
            return self.resampler_class(**keywords)
        except (Exception, SystemExit) as error:  # a user's class may raise anything
            raise self._broken(
                f"cannot be created with the keyword arguments {', '.join(keywords) or '(none)'} "
                f"({type(error).__name__}: {error}); it may require only {', '.join(arguments)}"
            ) from None

    def _checked_rows(self, rows: Any, width: int) -> NDArray[np.float32]:
        try:
            with np.errstate(over="ignore"):
                values = np.asarray(rows).astype(np.float32)
        except (TypeError, ValueError):
            raise self._broken(f"fit_resample returned x as {type(rows).__name__}, expected numbers") from None
        if values.ndim != 2 or values.shape[1] != width:
            raise self._broken(f"fit_resample returned x of the shape {values.shape}, expected (rows, {width})")
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise self._broken(
                f"fit_resample returned a value that is not finite in float32, in row {int(np.argmin(finite))} of x"
            )
        return values

    def _checked_labels(self, labels: Any, rows: Any, task: BalancingTask) -> NDArray[np.int64]:
        try:
            values = np.asarray(labels)
        except ValueError:
            raise self._broken("fit_resample returned y with rows of unequal length, expected integers") from None
        count = len(task.source.classes)
        if values.shape != np.shape(rows)[:1]:
            raise self._broken(
                f"fit_resample returned y of the shape {values.shape}, expected {np.shape(rows)[:1]}, one label for "
                "each row of x"
            )
        try:
            whole = values.astype(np.int64)
            is_class = (whole == values) & (whole >= 0) & (whole < count)
        except (TypeError, ValueError):
            is_class = np.zeros(len(values), bool)
        if not np.all(is_class):
            wrong = values[int(np.argmin(is_class))]
            raise self._broken(f"fit_resample returned the label {wrong}, expected an integer from 0 to {count - 1}")
        for label in np.unique(whole).tolist():
            if not len(task.members[label]):
                raise self._broken(
                    f"fit_resample returned rows of class {task.source.classes[label]}, which has no training sample"
                )
        return whole

    def _refuse_unknown_categories(
        self, x: NDArray[np.float32], resampled: NDArray[np.float32], task: BalancingTask
    ) -> None:
        for feature in task.source.categories:
            unknown = ~np.isin(resampled[:, feature], x[:, feature])
            if unknown.any():
                columns = task.source.columns
                column = columns.features[feature] if columns else str(feature)
                value = resampled[int(np.argmax(unknown)), feature]
                raise self._broken(
                    f"fit_resample returned {value:g} in column {column}, which holds categories "
                    "(data.category_columns); expected the number of a category, as in the training samples. The "
                    "constructor's argument categorical_features lists these features"
                )

    def _report(self, task: BalancingTask, rows: RowTable) -> None:
        classes = task.source.classes
        counts = [len(indices) for indices in task.members]
        originals = rows.part(np.flatnonzero(~rows.synthetic)).counts(len(classes))
        copies = int((rows.synthetic & np.isnan(rows.values).all(axis=1)).sum())
        log.info(
            "data.balance = %r: %d of %d training samples remain, %d rows are copies, %d are synthetic",
            *(self.name, sum(originals), sum(counts), copies, len(rows) - sum(originals) - copies),
        )
        replaced = [
            f"class {name}" for name, left, count in zip(classes, originals, counts, strict=True) if count and not left
        ]
        if replaced:
            log.warning(
                "data.balance = %r: no training sample remains in %s: every row that fit_resample returned differs "
                "from all training samples of its class",
                *(self.name, named(replaced)),
            )

    def _broken(self, problem: str) -> InputError:
        return InputError(f"data.balance = {self.name!r}: {problem}")


@dataclass(frozen=True, eq=False)
class _Origins:
    """The origin of each row of a resampler.

    Attributes
    ----------
    sample : ndarray of int64, shape (M,)
        The training sample that the row equals, or else the nearest one of its class; a position in the training part.
    kind : ndarray of int64, shape (M,)
        0: the sample itself, 1: a copy of it, 2: another row.
    """

    sample: NDArray[np.int64]
    kind: NDArray[np.int64]


def _row_table(
    task: BalancingTask, x: NDArray[np.float32], resampled: NDArray[np.float32], labels: NDArray[np.int64]
) -> RowTable:
    """Return the rows of a resampler, those that are training samples first and in their order."""
    origins = _origins(x, task.labels, resampled, labels)
    order = np.lexsort((np.where(origins.kind == 0, origins.sample, np.arange(len(labels))), origins.kind > 0))
    sample, kind = origins.sample[order], origins.kind[order]
    source = task.train[sample]
    values = np.full((len(order), x.shape[1]), np.nan, np.float32)
    other = np.flatnonzero(kind == 2)
    values[other] = _in_length_of(task, source[other], resampled[order[other]])
    return RowTable(
        labels[order].astype(np.int32),
        source,
        np.where(kind == 0, -1, source),
        np.zeros(len(order), np.float32),
        values,
    )


def _origins(
    x: NDArray[np.float32], y: NDArray[np.int64], resampled: NDArray[np.float32], labels: NDArray[np.int64]
) -> _Origins:
    unused: dict[tuple[int, bytes], deque[int]] = defaultdict(deque)
    for place, (label, row) in enumerate(zip(y.tolist(), x, strict=True)):
        unused[label, row_digest(row)].append(place)
    first = {key: places[0] for key, places in unused.items()}
    sample = np.full(len(resampled), -1, np.int64)
    kind = np.full(len(resampled), 2, np.int64)
    for place, (label, row) in enumerate(zip(labels.tolist(), resampled, strict=True)):
        key = (label, row_digest(row))
        if key in first:
            kind[place] = 0 if unused[key] else 1
            sample[place] = unused[key].popleft() if unused[key] else first[key]
    for label in np.unique(labels[kind == 2]).tolist():
        rows = np.flatnonzero((kind == 2) & (labels == label))
        members = np.flatnonzero(y == label)
        with limit_threads(1):
            search = NearestNeighbors(n_neighbors=1).fit(x[members])
            sample[rows] = members[search.kneighbors(resampled[rows], return_distance=False)[:, 0]]
    return _Origins(sample, kind)


def _in_length_of(task: BalancingTask, source: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resample series, all as long as the longest, to the lengths of samples of the source; other values stay."""
    lengths = task.source.lengths(source)
    if lengths is None:
        return values
    shape = task.source.sample_shape
    full = np.full(len(values), shape[0], np.int64)
    return resample_steps(values.reshape(-1, *shape), full, lengths).reshape(values.shape)

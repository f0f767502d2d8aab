"""Methods of balancing that look at the samples of several classes at once, and so need them all in memory."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from imblearn.over_sampling import ADASYN, SMOTENC, SVMSMOTE, BorderlineSMOTE, KMeansSMOTE
from imblearn.under_sampling import EditedNearestNeighbours, TomekLinks
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from rcdp_hpc.data.rows import RowTable, synthetic_rows
from rcdp_hpc.runtime.threads import limit_threads

BLOCK_BYTES = 2**25


class UnsuitedError(Exception):
    """imbalanced-learn refuses the samples."""


CLEANERS = {"smote_tomek": TomekLinks, "smote_enn": EditedNearestNeighbours}


def made_rows(
    method: str,
    x: NDArray[np.float32],
    y: NDArray[np.int64],
    targets: Sequence[int],
    neighbours: int,
    seed: int,
    categories: Sequence[int] = (),
) -> list[RowTable]:
    """Let imbalanced-learn make rows, and return what each is made of.

    Parameters
    ----------
    method : {"borderline_smote", "svm_smote", "adasyn", "kmeans_smote", "smotenc"}
        ``data.balance``.
    x : ndarray of float32, shape (N, width)
        All training samples, flattened.
    y : ndarray of int64, shape (N,)
        Their classes.
    targets : sequence of int
        Rows that each class shall have; ADASYN comes near them.
    neighbours : int
        Nearest neighbours k.
    seed : int
        Seed of the draws.
    categories : sequence of int
        Features that hold categories.

    Returns
    -------
    list of RowTable
        One for each class that gets rows; ``source`` and ``neighbour`` count the rows of `x`.

    Raises
    ------
    UnsuitedError
        If imbalanced-learn refuses the data, in its words.
    """
    counts = np.bincount(y, minlength=len(targets))
    strategy = {label: target for label, target in enumerate(targets) if target > counts[label]}
    if not strategy:
        return []
    try:
        with limit_threads(1), np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning)
            warnings.filterwarnings("ignore", category=FutureWarning)
            return _MAKERS[method](x, y, strategy, neighbours, seed, categories)
    except (ValueError, RuntimeError) as error:
        raise UnsuitedError(" ".join(str(error).split()).rstrip(".")) from None


def kept_rows(method: str, x: NDArray[np.float32], y: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return the rows that Tomek's links or edited nearest neighbours leave, ascending.

    Parameters
    ----------
    method : {"smote_tomek", "smote_enn"}
        ``data.balance``.
    x : ndarray of float32, shape (N, width)
        Training rows, the synthetic ones among them.
    y : ndarray of int32, shape (N,)
        Their classes.
    """
    with limit_threads(1):
        cleaner = CLEANERS[method](sampling_strategy="all")
        cleaner.fit_resample(x, y)
    kept: NDArray[np.int64] = np.sort(cleaner.sample_indices_)
    return kept


class _Recorded:
    """Keeps what each synthetic row is made of; mixed into imbalanced-learn's relatives of SMOTE."""

    recipes: list[tuple[int, Any, Any, Any]]

    def _generate_samples(
        self, x: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, y_type: Any = None, y: Any = None
    ) -> Any:
        if len(rows):
            self.recipes.append((int(y_type), x[rows], nn_data[nn_num[rows, cols]], steps[:, 0]))
        return x[rows]


class _Borderline(_Recorded, BorderlineSMOTE):  # type: ignore[misc]
    pass


class _Svm(_Recorded, SVMSMOTE):  # type: ignore[misc]
    pass


class _KMeans(_Recorded, KMeansSMOTE):  # type: ignore[misc]
    pass


def _relative(kind: Any) -> Any:
    def make(x: Any, y: Any, strategy: Any, neighbours: int, seed: int, categories: Any) -> list[RowTable]:
        sampler = kind(sampling_strategy=strategy, k_neighbors=neighbours, random_state=seed)
        sampler.recipes = []
        sampler.fit_resample(x, y)
        tables = []
        for label in strategy:
            members = np.flatnonzero(y == label)
            # It hands over copies of rows; equal rows are one and the same to it.
            known = {_digest(row): int(place) for place, row in zip(members[::-1], x[members[::-1]], strict=True)}
            for own, start, end, steps in sampler.recipes:
                if own == label:
                    seeds, others = (np.array([known[_digest(row)] for row in rows], np.int64) for rows in (start, end))
                    others = other_than_own(x, members, seeds, others)
                    tables.append(synthetic_rows(label, seeds, others, steps.astype(np.float32)))
        return tables

    return make


def other_than_own(
    x: NDArray[np.float32], members: NDArray[np.int64], source: NDArray[np.int64], neighbour: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return neighbours, those that are their own source replaced by the nearest other sample of the class.

    imbalanced-learn takes the first of a sample's nearest neighbours for the sample itself. If other samples equal it,
    that may be one of them, and the sample is then found among its own neighbours.

    Parameters
    ----------
    x : ndarray of float32, shape (N, width)
    members : ndarray of int64
        The rows of the class, two or more.
    source, neighbour : ndarray of int64, shape (n,)
        Rows of `x`.
    """
    result = neighbour.copy()
    alone = np.unique(source[source == neighbour]).tolist()
    if not alone:
        return result
    equal: dict[bytes, list[int]] = {}
    for place, row in zip(members.tolist(), x[members], strict=True):
        equal.setdefault(_digest(row), []).append(place)
    for row in alone:
        twins = [place for place in equal[_digest(x[row])][:2] if place != row]
        result[(source == row) & (neighbour == row)] = twins[0] if twins else _nearest_other(x, members, row)
    return result


def _nearest_other(x: NDArray[np.float32], members: NDArray[np.int64], row: int) -> int:
    """Return the row of a class that is nearest to one of its rows."""
    others = members[members != row]
    block = max(1, BLOCK_BYTES // (8 * x.shape[1]))
    distance = [
        np.square(x[others[start : start + block]] - x[row], dtype=np.float64).sum(axis=1)
        for start in range(0, len(others), block)
    ]
    return int(others[np.argmin(np.concatenate(distance))])


def _digest(row: NDArray[np.float32]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(row, np.float32).data, digest_size=16).digest()


class _Draws(np.random.RandomState):
    """A random state that remembers the last choice and the last steps."""

    chosen: NDArray[np.int64]
    steps: NDArray[np.float64]

    def choice(self, *args: Any, **options: Any) -> Any:
        self.chosen = super().choice(*args, **options)
        return self.chosen

    def uniform(self, *args: Any, **options: Any) -> Any:
        self.steps = super().uniform(*args, **options)
        return self.steps


def _adasyn(x: Any, y: Any, strategy: Any, neighbours: int, seed: int, categories: Any) -> list[RowTable]:
    """ADASYN makes a class's rows without telling of what: run class by class, its draws are listened to."""
    tables = []
    for label, target in strategy.items():
        draws = _Draws(seed + label)
        sampler = ADASYN(sampling_strategy={label: target}, n_neighbors=neighbours, random_state=draws)
        sampler.fit_resample(x, y)
        members = np.flatnonzero(y == label)
        # Its rows come in the order of their seeds, as many of each as neighbours of other classes weigh it.
        search = NearestNeighbors(n_neighbors=neighbours + 1)
        around = search.fit(x).kneighbors(x[members], return_distance=False)[:, 1:]
        foreign = np.sum(y[around] != label, axis=1) / neighbours
        number = np.rint(foreign / np.sum(foreign) * (target - len(members))).astype(int)
        own = np.repeat(np.arange(len(members)), number)
        nearest = search.fit(x[members]).kneighbors(x[members], return_distance=False)[:, 1:]
        seeds = members[own]
        others = other_than_own(x, members, seeds, members[nearest[own, draws.chosen]])
        tables.append(synthetic_rows(label, seeds, others, draws.steps[:, 0].astype(np.float32)))
    return tables


class _Nominal(SMOTENC):  # type: ignore[misc]
    recipes: list[tuple[Any, Any, Any]]

    def _generate_samples(self, X: Any, nn_data: Any, nn_num: Any, rows: Any, cols: Any, steps: Any, *rest: Any) -> Any:
        self.recipes.append((rows, nn_num[rows, cols], steps[:, 0]))
        return super()._generate_samples(X, nn_data, nn_num, rows, cols, steps, *rest)


def _smotenc(x: Any, y: Any, strategy: Any, neighbours: int, seed: int, categories: Any) -> list[RowTable]:
    sampler = _Nominal(
        categorical_features=list(categories), sampling_strategy=strategy, k_neighbors=neighbours, random_state=seed
    )
    sampler.recipes = []
    made, labels = sampler.fit_resample(x, y)
    tables, start = [], len(x)
    for (rows, others, steps), label in zip(sampler.recipes, strategy, strict=True):
        members = np.flatnonzero(y == label)
        stop = start + len(rows)
        assert (labels[start:stop] == label).all()
        values = made[start:stop][:, list(categories)].astype(np.float32)
        ends = other_than_own(x, members, members[rows], members[others])
        tables.append(synthetic_rows(label, members[rows], ends, steps.astype(np.float32), values))
        start = stop
    return tables


_MAKERS = {
    "borderline_smote": _relative(_Borderline),
    "svm_smote": _relative(_Svm),
    "kmeans_smote": _relative(_KMeans),
    "adasyn": _adasyn,
    "smotenc": _smotenc,
}

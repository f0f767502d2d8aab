"""How the ridge readout is solved over all ranks and its penalty chosen: by leave-one-out, or on the validation rows.

Few rows: their states are gathered on rank 0, and every row judges the penalties by the score that it has when it is
left out (`rcdp_hpc.reservoir.left_out`). Synthetic rows do not judge, and a row that is left out must take the
synthetic rows made from it along: therefore leave-one-out is done on the original rows alone, with class weights that
stand in for the synthetic ones. Many rows: their states stream into sums, and the validation rows judge the penalties.
Either way the readout is then solved from all rows, the validation rows included.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, ReadoutSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors import extractor_class
from rcdp_hpc.reservoir.gram import GramSums, reduce_sums
from rcdp_hpc.reservoir.left_out import LeftOut, left_out, solve_rows
from rcdp_hpc.reservoir.ridge import (
    RidgeReadout,
    best_by,
    one_hot,
    scaled_error,
    scaling_sums,
    score_moments,
    solve,
)
from rcdp_hpc.reservoir.stream import bound_of_sums, sum_slabs
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root

log = logging.getLogger(__name__)

Blocks = Iterable[tuple[torch.Tensor, torch.Tensor]]
ORIGINAL, SYNTHETIC, VALIDATION = 0, 1, 2
# Bytes of validation states that a rank keeps while it tries penalties; more are computed for each of them.
KEPT_BYTES = 2**30
# Rows or features up to which the training judges by leave-one-out: one eigendecomposition takes seconds.
LEFT_OUT_AT_MOST = 3000
# Errors are rounded to such steps, block by block, so that adding them up is exact in any order.
ERROR_STEP = 2.0**-30


@dataclass(frozen=True)
class RidgeFit:
    """A ridge readout and how it was chosen.

    Attributes
    ----------
    readout : RidgeReadout
    penalty : float
        Per row, of standardised features.
    accuracy : float
        Of left-out scores, or on the validation rows by the readout of the training rows; see `judged_by`.
    means, deviations : numpy.ndarray, shape (classes,), float64
        Of the scores, over the rows that the readout is fitted to.
    judged_by : {"left-out", "validation"}
        What chose the penalty.
    """

    readout: RidgeReadout
    penalty: float
    accuracy: float
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    judged_by: str = "validation"


@dataclass(frozen=True)
class GatheredRows:
    """The states of few rows, on one rank.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, features)
    labels : numpy.ndarray, shape (rows,), int64
        Class numbers.
    origins : numpy.ndarray, shape (rows,)
        ORIGINAL or SYNTHETIC training rows, or VALIDATION.
    joined_at : int
        The first column of features that are joined to the reservoir's states; 0 if all are of one kind.
    """

    states: torch.Tensor
    labels: NDArray[np.int64]
    origins: NDArray[np.int64]
    joined_at: int = 0


@dataclass(frozen=True)
class RowSource:
    """Where the rows of a fit come from, on this rank.

    Attributes
    ----------
    width, classes : int
        Features and classes.
    rows, validation_rows : int
        Rows over all ranks, with all copies of shifted images.
    class_counts : numpy.ndarray, shape (classes,)
        Training rows of each class, over all ranks.
    slabs, validation : callable
        Return this rank's blocks of states and class numbers, by partition. Partitions and blocks are the same for any
        number of ranks. Validation may be asked for several times.
    gather : callable
        Returns all rows on rank 0 and None elsewhere. Collective.
    """

    width: int
    classes: int
    rows: int
    validation_rows: int
    class_counts: NDArray[np.int64]
    slabs: Callable[[], Iterable[Blocks]]
    validation: Callable[[], Iterable[Blocks]]
    gather: Callable[[], GatheredRows | None]


def fit_ridge(config: Config, comm: Communicator, source: RowSource, with_validation: bool = True) -> RidgeFit:
    """Choose the penalty and solve the readout. Collective.

    Parameters
    ----------
    config : Config
    comm : Communicator
    source : RowSource
    with_validation : bool
        Solve from the validation rows too; False if something else is to be judged by them.

    Returns
    -------
    RidgeFit
        The same bits on every rank, and for any number of ranks.
    """
    weights = class_weights(config, source.class_counts)
    few = left_out_suits(config, source.rows + source.validation_rows, source.width)
    fit = _by_left_out if few else _by_validation
    return _smoothed(fit(config, comm, source, weights, with_validation), config.loss.label_smoothing)


def left_out_suits(config: Config, rows: int, width: int, at_most: int = LEFT_OUT_AT_MOST) -> bool:
    """Tell whether the penalty is chosen by leave-one-out: as configured, or if that is cheap.

    Parameters
    ----------
    config : Config
        Of it are used ``readout.ridge_selection``; ``augment.shifts``, since a row's shifted copies would have to be
        left out with it; and ``reservoir.noise``, which only training rows have.
    rows : int
        Rows whose states are held at once.
    width : int
        Features.
    at_most : int
        Rows or features: the smaller number decides what an eigendecomposition costs.
    """
    if config.readout.ridge_selection != "auto":
        return config.readout.ridge_selection == "left_out"
    few = rows <= 10_000 and min(rows, width) <= at_most and rows * width <= 2**25
    return few and not config.augment.shifts and not config.reservoir.noise


def class_weights(config: Config, counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return the weight of a row of each class, with the mean 1 over the training rows; None if all weigh the same.

    Raises
    ------
    InputError
        If classes are to be weighted and one has no row.
    """
    if config.loss.class_weights == "none":
        return None
    if not counts.all():
        raise agreed(
            InputError(
                f"loss.class_weights = 'balanced' needs training rows of every class, and class number "
                f"{int(np.argmin(counts))} has none: set it to 'none', or bring such samples."
            )
        )
    return np.asarray(counts.sum() / (len(counts) * counts))


def weights_of(labels: NDArray[np.int64], weights: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return the weight of each row by its class, None if all weigh the same."""
    return None if weights is None else weights[labels]


def stand_in_weights(
    judged: NDArray[np.int64], fitted: NDArray[np.int64], classes: int, weights: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return weights of original rows with which each class weighs as much as in the fit with synthetic rows.

    Parameters
    ----------
    judged, fitted : numpy.ndarray
        Class numbers of the original rows, and of all rows that the readout is fitted to.
    classes : int
    weights : numpy.ndarray, shape (classes,), optional
        Of a row of each class in the fit.

    Returns
    -------
    numpy.ndarray, shape (len(judged),), or None
        None if every row weighs 1.
    """
    own, all_rows = np.bincount(judged, minlength=classes), np.bincount(fitted, minlength=classes).astype(np.float64)
    total = all_rows if weights is None else all_rows * weights
    if np.array_equal(own, total):
        return None
    return np.asarray((total / np.maximum(own, 1))[judged])


def _smoothed(fit: RidgeFit, smoothing: float) -> RidgeFit:
    """Return the fit to the targets (1 - s) y + s / classes, which is linear in the fit to the one-hot targets y."""
    if not smoothing:
        return fit
    share, rest = 1 - smoothing, smoothing / len(fit.means)
    readout = RidgeReadout(share * fit.readout.weights, share * fit.readout.intercept + rest)
    return replace(fit, readout=readout, means=share * fit.means + rest, deviations=share * fit.deviations)


def _by_left_out(
    config: Config,
    comm: Communicator,
    source: RowSource,
    weights: NDArray[np.float64] | None,
    with_validation: bool,
) -> RidgeFit:
    gathered = source.gather()
    started = time.perf_counter()

    def work() -> RidgeFit:
        if gathered is None:
            raise AssertionError("rank 0 has all rows")
        return _left_out_fit(config, gathered, source.classes, weights, with_validation)

    fit = run_on_root(comm, work)
    log.info(
        "ridge over %d features: %d penalties judged by leave-one-out of the original rows in %.1f s",
        source.width, len(config.readout.ridge_penalties), time.perf_counter() - started,
    )  # fmt: skip
    return fit


def _left_out_fit(
    config: Config,
    rows: GatheredRows,
    classes: int,
    weights: NDArray[np.float64] | None,
    with_validation: bool,
) -> RidgeFit:
    """Judge by the original rows, validation rows among them, and solve from all."""
    judged = rows.origins != SYNTHETIC
    fitted = np.ones_like(judged) if with_validation else rows.origins != VALIDATION
    of_judged = stand_in_weights(rows.labels[judged], rows.labels, classes, weights)
    tried: list[tuple[LeftOut, NDArray[np.float64] | None]] = []
    for factors in _block_factors(config, rows):
        one = left_out(
            rows.states[judged], rows.labels[judged], classes, config.readout.ridge_penalties, of_judged, factors
        )
        tried.append((one, factors))
    found, factors = min(tried, key=lambda pair: pair[0].errors[pair[0].penalty])
    if factors is not None:
        log.info("ridge: the kernels' features weigh %.3g times the states", factors[-1] / factors[0])
    _report_errors(found.errors, "of left-out rows")
    if fitted.all() and judged.all():
        readout = found.readout
    else:
        labels = rows.labels[fitted]
        of_fitted = weights_of(labels, weights)
        readout = solve_rows(rows.states[fitted], labels, classes, found.penalty, of_fitted, factors)
    scores = readout.predict(rows.states[fitted]).astype(np.float64)
    return RidgeFit(readout, found.penalty, found.accuracy, scores.mean(0), scores.std(0), "left-out")


def _block_factors(config: Config, rows: GatheredRows) -> list[NDArray[np.float64] | None]:
    """Return the factors on standardised features to try: a weight for the joined ones, the mean square staying 1."""
    if not rows.joined_at:
        return [None]
    joined = np.arange(rows.states.shape[1]) >= rows.joined_at
    found: list[NDArray[np.float64] | None] = []
    for weight in config.extractor.kernel_weights:
        factors = np.where(joined, weight, 1.0)
        found.append(factors / np.sqrt(np.mean(factors**2)))
    return found


def _by_validation(
    config: Config,
    comm: Communicator,
    source: RowSource,
    weights: NDArray[np.float64] | None,
    with_validation: bool,
) -> RidgeFit:
    started = time.perf_counter()
    origin = run_on_root(comm, lambda: _origin(source)) if config.readout.ridge_precision == "single" else None
    source = _shifted(source, origin)
    bound = _bound_of_sums(config, source.rows + source.validation_rows)
    if bound is not None and origin is not None:
        bound *= 4  # a feature and its origin lie within the same limit
    if bound is not None and weights is not None:
        bound *= max(1.0, float(weights.max()))
    sums = agree(comm, lambda: GramSums(source.width, source.classes, config.readout.ridge_precision, bound))
    agree(comm, lambda: sum_slabs(sums, source.slabs(), source.classes, weights))
    reduce_sums(sums, comm)
    summed_at = time.perf_counter()
    validation = _Validation(source, weights)
    correct: dict[float, float] = {}

    def error_of(penalty: float) -> float:
        readout = solve(sums, penalty)
        *scaling, right, weight = comm.allreduce(agree(comm, lambda: validation.judge(readout))).tolist()
        correct[penalty] = right
        return scaled_error(*scaling) / (weight * source.classes)

    penalty, errors = best_by(error_of, config.readout.ridge_penalties)
    _report_unsolved(config, errors)
    _report_errors(errors, "on validation")
    if with_validation:
        # The sums of all ranks go on from rank 0; the others add their validation rows alone.
        if not comm.is_root:
            sums.clear()
        agree(comm, lambda: sum_slabs(sums, validation.slabs(), source.classes, weights))
        reduce_sums(sums, comm)
    readout = solve(sums, penalty)
    log.info(
        "ridge over %d features, %d rows: sums %.1f s, %d of %d penalties tried and the readout solved %.1f s",
        source.width, sums.rows, summed_at - started, len(errors), len(config.readout.ridge_penalties),
        time.perf_counter() - summed_at,
    )  # fmt: skip
    moments = score_moments(sums, readout, penalty)
    if origin is not None:
        readout = replace(readout, intercept=readout.intercept - origin.astype(np.float64) @ readout.weights)
    return RidgeFit(readout, penalty, correct[penalty] / source.validation_rows, *moments)


def _origin(source: RowSource) -> NDArray[np.float32] | None:
    """Return the mean of the first block of training rows, which is subtracted from all features; None in 16 bits.

    The variance of a feature whose deviation is small next to its mean is lost in float32 products of its values, but
    not after a mean is subtracted. States of 16 bits are no finer than that, and their products are exact.
    """
    for slab in source.slabs():
        for states, _ in slab:
            return states.mean(0).cpu().numpy() if states.dtype == torch.float32 else None
    return None


def _shifted(source: RowSource, origin: NDArray[np.float32] | None) -> RowSource:
    """Return the rows with `origin` subtracted from their features."""
    if origin is None:
        return source
    subtracted = torch.from_numpy(origin)

    def shifted(slabs: Iterable[Blocks]) -> Iterator[Blocks]:
        for slab in slabs:
            yield ((states - subtracted.to(states.device), labels) for states, labels in slab)

    return replace(source, slabs=lambda: shifted(source.slabs()), validation=lambda: shifted(source.validation()))


def _report_errors(errors: dict[float, float], which: str) -> None:
    listed = ", ".join(f"{penalty:g}: {errors[penalty]:.4g}" for penalty in sorted(errors))
    log.info("ridge: squared error %s after scaling, by penalty: %s", which, listed)


def _bound_of_sums(config: Config, rows: int) -> float | None:
    """Return a bound on every sum over so many rows, None if what ridge reads is unbounded."""
    if config.reservoir.kind != "none":
        return bound_of_sums(config.reservoir.activation, rows)
    farthest = extractor_class(config.extractor.kind).bound
    return None if farthest is None else rows * farthest**2


def _report_unsolved(config: Config, errors: dict[float, float]) -> None:
    small = [f"{penalty:g}" for penalty, error in errors.items() if not np.isfinite(error)]
    if small:
        # The smallest of the default list are expected to drop out.
        unasked = config.readout.ridge_penalties == ReadoutSection().ridge_penalties
        log.log(
            logging.INFO if unasked else logging.WARNING,
            "ridge: readout.ridge_penalties of %s left out, too small for the rounding of the sums "
            "(readout.ridge_precision = '%s')",
            ", ".join(small), config.readout.ridge_precision,
        )  # fmt: skip


class _Validation:
    """The validation rows of a rank, which judge every penalty; their states are kept if they are not too many."""

    def __init__(self, source: RowSource, weights: NDArray[np.float64] | None) -> None:
        self.source, self.weights = source, weights
        self._kept: list[list[tuple[torch.Tensor, torch.Tensor]]] | None = None

    def slabs(self) -> Iterable[Blocks]:
        if self.source.validation_rows * self.source.width * 4 > KEPT_BYTES:
            return self.source.validation()
        if self._kept is None:
            self._kept = [list(slab) for slab in self.source.validation()]
        return self._kept

    def judge(self, readout: RidgeReadout) -> NDArray[np.float64]:
        """Return the sums of `scaling_sums`, the rows that are right, and the sum of the weights."""
        found, counts = np.zeros(5), self.source.class_counts
        total = counts if self.weights is None else counts * self.weights
        for slab in self.slabs():
            for states, labels in slab:
                scores, expected = readout.predict(states), labels.cpu().numpy()
                weight: Any = np.ones(len(expected)) if self.weights is None else self.weights[expected]
                targets = one_hot(expected, self.source.classes)
                scaling = scaling_sums(scores, targets, total / total.sum(), weight)
                sums = [*scaling, np.count_nonzero(scores.argmax(1) == expected), weight.sum()]
                found += np.round(np.array(sums, dtype=np.float64) / ERROR_STEP) * ERROR_STEP
        return found

"""Solution of the ridge readout over all ranks, with a penalty selected by leave-one-out or on the validation rows.

Few rows: their states are gathered on rank 0, and the penalty is selected by the error of left-out rows
(`rcdp_hpc.reservoir.left_out`). Leave-one-out uses the original rows only, because the synthetic rows that were made
from a left-out row would have to be left out with it. Class weights replace the synthetic rows.

Many rows: their states are added to sums, and the penalty is selected by the error on the validation rows.

In both cases the readout is then solved from all rows, including the validation rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config, ReadoutSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.calibration.scores import HeldOutScores, natural_weights
from rcdp_hpc.model.class_weights import class_weights
from rcdp_hpc.networks.extractors import extractor_class
from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.device_sums import make_sums, sums_bytes
from rcdp_hpc.reservoir.gram import reduce_sums
from rcdp_hpc.reservoir.left_out import LeftOut, left_out, left_out_bytes, solve_rows
from rcdp_hpc.reservoir.ridge import (
    RidgeReadout,
    best_by,
    best_of_all,
    scaled_error,
    score_moments,
    solve,
)
from rcdp_hpc.reservoir.stream import largest_sum, sum_slabs
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.training.held_out import HeldOutAnswers
from rcdp_hpc.training.held_out_scores import solved_scores
from rcdp_hpc.training.solve.penalty_choice import penalty_criterion, report_criterion, worth_of_scores
from rcdp_hpc.training.solve.solving_device import device_with_room
from rcdp_hpc.training.solve.validation_errors import ValidationErrors, stored_bytes

log = logging.getLogger(__name__)

Blocks = Iterable[tuple[torch.Tensor, torch.Tensor]]
ORIGINAL, SYNTHETIC, VALIDATION = 0, 1, 2
# Rows or features up to which the training uses leave-one-out: its eigendecomposition then takes seconds.
LEFT_OUT_AT_MOST = 3000


@dataclass(frozen=True)
class RidgeFit:
    """A ridge readout, and how its penalty was selected.

    Attributes
    ----------
    readout : RidgeReadout
    penalty : float
        Penalty per row, for standardised features.
    accuracy : float
        Accuracy of left-out rows, or on the validation rows of the readout fitted to the training rows.
    means, deviations : numpy.ndarray, shape (classes,), float64
        Mean and standard deviation of the scores over the rows that the readout is fitted to.
    selected_by : {"left-out", "validation"}
        The rows that the penalty was selected by.
    held_out : HeldOutScores or None
        Scores of rows by a readout that is not fitted to them, on rank 0, if `RowSource.natural` asks for them.
    """

    readout: RidgeReadout
    penalty: float
    accuracy: float
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]
    selected_by: str = "validation"
    held_out: HeldOutScores | None = None


@dataclass(frozen=True)
class GatheredRows:
    """The states of few rows, on one rank.

    Attributes
    ----------
    states : torch.Tensor, shape (rows, features)
    labels : numpy.ndarray, shape (rows,), int64
        Class indices.
    origins : numpy.ndarray, shape (rows,)
        ORIGINAL or SYNTHETIC training rows, or VALIDATION.
    joined_at : int
        First column of the features that follow the reservoir's states; 0 if there is only one kind of features.
    """

    states: torch.Tensor
    labels: NDArray[np.int64]
    origins: NDArray[np.int64]
    joined_at: int = 0


@dataclass(frozen=True)
class RowSource:
    """The rows of a fit on this rank.

    Attributes
    ----------
    width, classes : int
        Features and classes.
    rows, validation_rows : int
        Rows over all ranks, including shifted copies of images.
    class_counts : numpy.ndarray, shape (classes,)
        Training rows of each class, over all ranks.
    partitions, validation : callable
        Return this rank's blocks of states and class indices, by partition. Partitions and blocks are the same for any
        number of ranks. `validation` may be called several times.
    gather : callable
        Returns all rows on rank 0 and None on other ranks. Collective.
    bound : float or None
        Largest absolute value of a feature; with it, sums are the same bits for any number of ranks. None if there is
        no bound.
    level : int
        Level of the log of the fit; `logging.DEBUG` if there are many fits.
    device : torch.device or None
        Device of the states that sums and solves (`rcdp_hpc.reservoir.device_sums.sums_device`); None for the CPU.
    natural : numpy.ndarray, shape (classes,), or None
        Counts of the classes in the source, if a fit returns scores of held-out rows for a calibration.
    names : tuple of str
        Names of the classes; empty if they are not known.
    """

    width: int
    classes: int
    rows: int
    validation_rows: int
    class_counts: NDArray[np.int64]
    partitions: Callable[[], Iterable[Blocks]]
    validation: Callable[[], Iterable[Blocks]]
    gather: Callable[[], GatheredRows | None]
    bound: float | None = None
    level: int = logging.INFO
    device: torch.device | None = None
    natural: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()

    @property
    def criterion_classes(self) -> tuple[str, ...]:
        """Names of the classes; their numbers if the names are not known."""
        return self.names or tuple(map(str, range(self.classes)))


def feature_bound(config: Config) -> float | None:
    """Return an upper bound of the absolute value of every feature that the readout reads; None if there is none."""
    if config.reservoir.kind != "none":
        return load_activation(config.reservoir.activation).bound
    return extractor_class(config.extractor.kind).bound


def fit_ridge(config: Config, comm: Communicator, source: RowSource, with_validation: bool = True) -> RidgeFit:
    """Select the penalty and solve the readout. Collective.

    Parameters
    ----------
    config : Config
    comm : Communicator
    source : RowSource
    with_validation : bool
        Whether the final readout is fitted to the validation rows, too; False if they evaluate another model later.

    Returns
    -------
    RidgeFit
        The same bits on every rank, and for any number of ranks.
    """
    weights = row_class_weights(config, source.class_counts)
    rows = source.rows + source.validation_rows
    few = left_out_suits(config, rows, source.width)
    if few:
        needed = left_out_bytes(rows, source.width)
    else:
        needed = sums_bytes(source.width, source.classes) + stored_bytes(source)
    what = f"ridge over {source.width} features"
    source = replace(source, device=device_with_room(comm, source.device, needed, what, source.level))
    fit = _by_left_out if few else _by_validation
    return _smoothed(fit(config, comm, source, weights, with_validation), config.loss.label_smoothing)


def left_out_suits(config: Config, rows: int, width: int, at_most: int = LEFT_OUT_AT_MOST) -> bool:
    """Return whether the penalty is selected by leave-one-out: as configured, or for "auto" if it is cheap.

    Parameters
    ----------
    config : Config
        ``readout.ridge_selection`` is read. "auto" does not use leave-one-out with ``augment.shifts``, because the
        shifted copies of a row would have to be left out with it, with groups of samples, because the other rows of its
        group would have to, and with ``reservoir.noise``, which only training rows have.
    rows : int
        Rows whose states are in memory at once.
    width : int
        Features.
    at_most : int
        Largest number of rows or features, whichever is smaller: it decides the cost of the eigendecomposition.
    """
    if config.readout.ridge_selection != "auto":
        return config.readout.ridge_selection == "left_out"
    few = rows <= 10_000 and min(rows, width) <= at_most and rows * width <= 2**25
    return few and not (config.augment.shifts or config.data.names_groups or config.reservoir.noise)


def row_class_weights(config: Config, counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Return `class_weights` of counts that all ranks have in common, so that an error is one of all ranks."""
    try:
        return class_weights(config.loss, counts)
    except InputError as error:
        raise agreed(error) from None


def weights_of(labels: NDArray[np.int64], weights: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return the weight of each row; None if all weights are 1."""
    return None if weights is None else weights[labels]


def replacement_weights(
    original: NDArray[np.int64], fitted: NDArray[np.int64], classes: int, weights: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return weights of the original rows that give each class the same weight as with the synthetic rows.

    Parameters
    ----------
    original, fitted : numpy.ndarray
        Class indices of the original rows, and of all rows that the readout is fitted to.
    classes : int
    weights : numpy.ndarray, shape (classes,), optional
        Weight of a row of each class in the fit.

    Returns
    -------
    numpy.ndarray, shape (len(original),), or None
        None if all weights are 1.
    """
    counts = np.bincount(original, minlength=classes)
    all_rows = np.bincount(fitted, minlength=classes).astype(np.float64)
    total = all_rows if weights is None else all_rows * weights
    if np.array_equal(counts, total):
        return None
    return np.asarray((total / np.maximum(counts, 1))[original])


def smoothed(readout: RidgeReadout, smoothing: float) -> RidgeReadout:
    """Return the readout of targets (1 - s) y + s / classes, a linear function of that of one-hot targets y."""
    if not smoothing:
        return readout
    share, rest = 1 - smoothing, smoothing / len(readout.intercept)
    return RidgeReadout(share * readout.weights, share * readout.intercept + rest)


def _smoothed(fit: RidgeFit, smoothing: float) -> RidgeFit:
    """Return the fit to smoothed targets; see `smoothed`."""
    if not smoothing:
        return fit
    share, rest = 1 - smoothing, smoothing / len(fit.means)
    readout = smoothed(fit.readout, smoothing)
    held_out = None if fit.held_out is None else fit.held_out.smoothed(smoothing)
    return replace(
        fit, readout=readout, means=share * fit.means + rest, deviations=share * fit.deviations, held_out=held_out
    )


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
        rows = replace(gathered, states=gathered.states.to(source.device or "cpu"))
        return _left_out_fit(config, rows, source, weights, with_validation)

    fit = run_on_root(comm, work)
    log.log(
        source.level,
        "ridge over %d features: %d penalties compared by leave-one-out of the original rows in %.1f s",
        source.width, len(config.readout.ridge_penalties), time.perf_counter() - started,
    )  # fmt: skip
    return fit


def _left_out_fit(
    config: Config,
    rows: GatheredRows,
    source: RowSource,
    weights: NDArray[np.float64] | None,
    with_validation: bool,
) -> RidgeFit:
    """Select the penalty by the original rows, including validation rows, and solve from all rows."""
    classes = source.classes
    original = rows.origins != SYNTHETIC
    fitted = np.ones_like(original) if with_validation else rows.origins != VALIDATION
    row_weights = replacement_weights(rows.labels[original], rows.labels, classes, weights)
    by = penalty_criterion(config, source.criterion_classes)
    worth = worth_of_scores(by, rows.labels[original])
    results: list[tuple[LeftOut, NDArray[np.float64] | None]] = []
    for factors in _block_factors(config, rows):
        result = left_out(
            rows.states[original], rows.labels[original], classes, config.readout.ridge_penalties, row_weights, factors,
            source.device, worth=worth,
        )  # fmt: skip
        results.append((result, factors))
    best, factors = max(results, key=lambda pair: pair[0].rank)
    if factors is not None:
        ratio = factors[-1] / factors[0]
        log.log(source.level, "ridge: the weight of the kernels' features is %.3g times that of the states", ratio)
    _report_errors(best.errors, "of left-out rows", source.level)
    if by is not None and best.worth is not None:
        report_criterion(by, best.worth, best.penalty, "left-out rows", source.level)
    if fitted.all() and original.all():
        readout = best.readout
    else:
        labels = rows.labels[fitted]
        readout = solve_rows(
            rows.states[fitted], labels, classes, best.penalty, weights_of(labels, weights), factors, source.device
        )
    scores = readout.predict(rows.states[fitted]).astype(np.float64)
    held_out = None
    if source.natural is not None:
        labels = rows.labels[original]
        held_out = HeldOutScores.of_solved(best.scores, labels, "left-out", natural_weights(labels, source.natural))
    return RidgeFit(readout, best.penalty, best.accuracy, scores.mean(0), scores.std(0), "left-out", held_out)


def _block_factors(config: Config, rows: GatheredRows) -> list[NDArray[np.float64] | None]:
    """Return the factors of standardised features to try: one per weight of the joined features, with mean square 1."""
    if not rows.joined_at:
        return [None]
    joined = np.arange(rows.states.shape[1]) >= rows.joined_at
    candidates: list[NDArray[np.float64] | None] = []
    for weight in config.extractor.kernel_weights:
        factors = np.where(joined, weight, 1.0)
        candidates.append(factors / np.sqrt(np.mean(factors**2)))
    return candidates


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
    bound = largest_sum(source.bound, source.rows + source.validation_rows)
    if bound is not None and origin is not None:
        bound *= 4  # abs(feature - origin) is at most twice the bound of a feature
    if bound is not None and weights is not None:
        bound *= max(1.0, float(weights.max()))
    precision = config.readout.ridge_precision
    sums = agree(comm, lambda: make_sums(source.width, source.classes, precision, bound, device=source.device))
    agree(comm, lambda: sum_slabs(sums, source.partitions(), weights))
    reduce_sums(sums, comm)
    summed_at = time.perf_counter()
    validation = ValidationErrors(source, weights)
    by = penalty_criterion(config, source.criterion_classes)
    correct: dict[float, float] = {}
    worths: dict[float, float] = {}

    def error_of(penalty: float) -> float:
        readout = solve(sums, penalty)
        answers = None if by is None else HeldOutAnswers(by)
        *scaling, right, weight = comm.allreduce(agree(comm, lambda: validation.sums_for(readout, answers))).tolist()
        correct[penalty] = right
        if answers is not None:
            worths[penalty] = answers.fitness(comm)
        return scaled_error(*scaling) / (weight * source.classes)

    if by is None:
        penalty, errors = best_by(error_of, config.readout.ridge_penalties)
    else:
        penalty, errors = best_of_all(error_of, worths.__getitem__, config.readout.ridge_penalties)
        report_criterion(by, worths[penalty], penalty, "validation rows", source.level)
    held_out = None
    if source.natural is not None:
        held_out = solved_scores(comm, validation.partitions(), solve(sums, penalty).predict, source.classes)
    _report_unsolved(config, errors, source.level)
    _report_errors(errors, "on validation", source.level)
    if with_validation:
        # Rank 0 has the sums of all ranks; the other ranks start from 0 and add their validation rows.
        if not comm.is_root:
            sums.clear()
        agree(comm, lambda: sum_slabs(sums, validation.partitions(), weights))
        reduce_sums(sums, comm)
    readout = solve(sums, penalty)
    log.log(
        source.level,
        "ridge over %d features, %d rows: sums %.1f s, %d of %d penalties tried and the readout solved %.1f s",
        source.width, sums.rows, summed_at - started, len(errors), len(config.readout.ridge_penalties),
        time.perf_counter() - summed_at,
    )  # fmt: skip
    moments = score_moments(sums, readout, penalty)
    if origin is not None:
        readout = replace(readout, intercept=readout.intercept - origin.astype(np.float64) @ readout.weights)
    return RidgeFit(readout, penalty, correct[penalty] / source.validation_rows, *moments, held_out=held_out)


def _origin(source: RowSource) -> NDArray[np.float32] | None:
    """Return the mean of the first block of training rows, which is subtracted from all features; None for 16 bits.

    If the standard deviation of a feature is small relative to its mean, products in float32 lose its variance unless
    a mean is subtracted first. States of 16 bits need no such step, since their products are exact.
    """
    for partition in source.partitions():
        for states, _ in partition:
            return states.mean(0).cpu().numpy() if states.dtype == torch.float32 else None
    return None


def _shifted(source: RowSource, origin: NDArray[np.float32] | None) -> RowSource:
    """Return the rows with `origin` subtracted from their features."""
    if origin is None:
        return source
    subtracted = torch.from_numpy(origin).to(source.device or "cpu")

    def shifted(partitions: Iterable[Blocks]) -> Iterator[Blocks]:
        for partition in partitions:
            yield ((states - subtracted.to(states.device), labels) for states, labels in partition)

    return replace(
        source,
        partitions=lambda: shifted(source.partitions()),
        validation=lambda: shifted(source.validation()),
    )


def _report_errors(errors: dict[float, float], which: str, level: int) -> None:
    listed = ", ".join(f"{penalty:g}: {errors[penalty]:.4g}" for penalty in sorted(errors))
    log.log(level, "ridge: squared error %s after scaling, by penalty: %s", which, listed)


def _report_unsolved(config: Config, errors: dict[float, float], level: int) -> None:
    small = [f"{penalty:g}" for penalty, error in errors.items() if not np.isfinite(error)]
    if small:
        # The smallest penalties of the default list are often too small.
        is_default = config.readout.ridge_penalties == ReadoutSection().ridge_penalties
        log.log(
            level if is_default or level < logging.INFO else logging.WARNING,
            "ridge: readout.ridge_penalties of %s left out, too small for the rounding of the sums "
            "(readout.ridge_precision = '%s')",
            ", ".join(small), config.readout.ridge_precision,
        )  # fmt: skip

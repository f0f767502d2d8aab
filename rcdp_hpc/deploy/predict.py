"""Labels and probabilities for new samples, in one process or on many ranks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection, PredictionSection
from rcdp_hpc.config.choices import SOURCES, is_user_class
from rcdp_hpc.config.choices.sources import source_choice
from rcdp_hpc.data.ranges import feature_count
from rcdp_hpc.data.sources import NewSamples, read_samples
from rcdp_hpc.deploy.causes import other_scale_message
from rcdp_hpc.deploy.comparison import Expected, compare, is_other_scale
from rcdp_hpc.deploy.formats.base import Block, Predictions, Probabilities
from rcdp_hpc.deploy.open_model import open_model
from rcdp_hpc.deploy.outliers import Outliers
from rcdp_hpc.deploy.outputs import Output, format_name
from rcdp_hpc.deploy.shape_check import refuse_other_shape
from rcdp_hpc.deploy.unmasked import UnmaskedGaps
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.prediction_model import PredictionModel
from rcdp_hpc.runtime.code_consent import check_model_code
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import limit_threads, threads_per_rank

BLOCK_ROWS = 4096
# Samples that a message names.
NAMED = 5
# Upper limit for the probabilities of all ranks that rank 0 holds at a time.
GATHERED_BYTES = 2**28
log = logging.getLogger(__name__)

# What is counted in the samples while they are predicted; None if the model does not have what it takes.
Watched = tuple[Outliers | None, UnmaskedGaps | None]


class Target(Protocol):
    """Takes the predictions of all samples."""

    def write(self, predictions: Predictions) -> None:
        """Read all blocks of the predictions."""


def predict(
    model_file: Path,
    samples_file: Path,
    output: Path,
    settings: DataSection | None = None,
    comm: Communicator | None = None,
    show_progress: bool = False,
    any_scale: bool = False,
    allow_code: bool = False,
    output_format: str = "",
    prediction: PredictionSection | None = None,
) -> dict[str, int]:
    """Write labels and probabilities of new samples to a file. Collective.

    Each rank reads and predicts a part of the samples in blocks. Rank 0 gathers the probabilities and writes one file,
    in the order of the samples. Nothing is written if the samples are refused.

    Parameters
    ----------
    model_file : Path
        A ``model.pt``, or an exported ``.npz``.
    samples_file : Path
        Raw samples, like the source of the training data; see `rcdp_hpc.data.sources.read_samples`.
    output : Path
        The file to write. Without `output_format` its suffix decides the format.
    settings : DataSection, optional
        How samples are read: source, names of columns and datasets. Default: as the model file records.
    comm : Communicator, optional
        All ranks; default: this process alone.
    show_progress : bool
        Show progress on rank 0.
    any_scale : bool
        Predict samples on another scale than the training data, with a warning.
    allow_code : bool
        Import classes that the model file names (`rcdp_hpc.runtime.code_consent`).
    output_format : str
        A name of `rcdp_hpc.config.choices.output_formats`, or a class of the caller's own as ``module:Class``
        (`rcdp_hpc.deploy.formats.base.OutputFormat`).
    prediction : PredictionSection, optional
        Priors, thresholds and costs in place of those of the model file, if they are not empty.

    Returns
    -------
    dict
        Number of samples predicted as each class, by class name; empty on ranks other than 0.

    Raises
    ------
    InputError
        If a file is missing or has the wrong form, samples have another shape or scale than the training data, or the
        model gives values that are not finite.
    """
    comm = comm or SingleProcess()
    chosen = agree(comm, partial(_format_name, output, samples_file, output_format))
    model = agree(comm, partial(_model, model_file, allow_code, prediction))
    reading = settings or model.data.reading
    shape, columns = model.raw_shape, model.data.columns
    agree(comm, partial(check_source_code, reading, model, model_file, allow_code))
    new = agree(comm, partial(read_samples, samples_file, reading, shape[0], columns, shape, working_directory=False))
    # Last of all imports: it may add the working directory, which is not searched for code that a model file names.
    target = agree_on_root(comm, partial(Output.open, output, chosen))
    counts = predict_new(comm, model, new, samples_file, reading, target, show_progress, any_scale)
    if not comm.is_root:
        return {}
    log.info("wrote labels and probabilities of %d samples to %s", len(new), output)
    return counts


def predict_new(
    comm: Communicator,
    model: PredictionModel,
    new: NewSamples,
    samples_file: Path,
    reading: DataSection | None,
    target: Target | None,
    show_progress: bool = False,
    any_scale: bool = False,
) -> dict[str, int]:
    """Check new samples, predict them, and pass the probabilities to a target on rank 0. Collective.

    Parameters
    ----------
    comm, show_progress, any_scale
        As in `predict`.
    model : PredictionModel
    new : NewSamples
        All samples, the same on every rank.
    samples_file : Path
        Names the samples in messages.
    reading : DataSection or None
        How the samples were read.
    target : Target or None
        Takes the predictions; None on ranks other than 0.

    Returns
    -------
    dict
        Number of samples predicted as each class, by class name, on rank 0; zeros on other ranks.

    Raises
    ------
    InputError
        As in `predict`.
    """
    if comm.is_root:
        new.findings.report(log)
    agree(comm, partial(refuse_other_shape, model, new, samples_file))
    expected = _expected(model, reading)
    if comm.is_root and not (model.rule.is_plain and model.kind == model.rule.column):
        log.info("written are %s", model.rule.describe(model.kind))
    if comm.is_root and model.data.ranges is None:
        log.info("the scale of the samples is not checked: the model file has no ranges of the training data")
    agree_on_root(comm, lambda: _check_scale(new, expected, samples_file, any_scale))
    outliers = None if expected is None else Outliers(expected, new)
    gaps = UnmaskedGaps.of(model)
    with limit_threads(threads_per_rank(comm)):
        counts = _predict_all(comm, model, new, samples_file, target, (outliers, gaps), show_progress)
    for warning in [watched.report(comm) for watched in (outliers, gaps) if watched is not None]:
        if warning and comm.is_root:
            log.warning("%s", warning)
    return dict(zip(model.classes, counts.tolist(), strict=True))


def _model(path: Path, allow_code: bool, prediction: PredictionSection | None) -> PredictionModel:
    """Return the model of a file, with other priors, thresholds or costs if they are given."""
    model = open_model(path, allow_code)
    if prediction is not None and prediction.has_rule:
        model.rule = model.rule.with_settings(prediction, model.classes)
    return model


def _format_name(output: Path, samples_file: Path, output_format: str) -> str:
    """Return the name of the format to write; refuse to write predictions over the samples."""
    name = format_name(output, output_format)
    if output.exists() and samples_file.exists() and output.samefile(samples_file):
        raise InputError(f"{output}: holds the samples, which would be overwritten. Choose another output file.")
    return name


def check_source_code(reading: DataSection | None, model: PredictionModel, model_file: Path, allow_code: bool) -> None:
    """Refuse a user's own source that the user has not named, unless it is allowed."""
    if reading is not None and is_user_class(reading.source):
        check_model_code(SOURCES.key, reading.source, model.code, model_file, allow_code)


def _predict_all(
    comm: Communicator,
    model: PredictionModel,
    new: NewSamples,
    path: Path,
    target: Target | None,
    watched: Watched,
    show_progress: bool,
) -> NDArray[np.int64]:
    """Compute and write all probabilities; return the number of samples of each class on rank 0, shape (classes,)."""
    counts = np.zeros(len(model.classes), np.int64)

    def counted(blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            counts[:] += np.bincount(block.labels, minlength=len(counts))
            yield block

    with Progress("predict", len(new), "samples", enabled=show_progress and comm.is_root) as bar:
        blocks = _gathered(comm, _block_of(model, new, path, watched), len(new), model, bar)
        if target is None:
            for _ in blocks:
                continue
            return counts
        predictions = Predictions(
            counted(blocks), len(new), model.classes, new.ids, new.id_name, model.kind, model.has_disagreement
        )
        target.write(predictions)
    return counts


def _expected(model: PredictionModel, reading: DataSection | None) -> Expected | None:
    """Return the training values to compare new samples with.

    None if the model file does not have them, or the model standardises each series by itself, so that any scale is
    accepted.
    """
    data = model.data
    if data.ranges is None or len(data.ranges) != feature_count(data.ranges.kind, model.raw_shape):
        return None
    if data.standardization is not None and data.standardization.method == "series":
        return None
    names = () if data.columns is None else tuple(data.columns.features)
    categories = () if data.columns is None else tuple(data.columns.categories)
    tables = reading is not None and source_choice(reading.source).has_named_columns
    return Expected(data.ranges, model.scale, names, categories, by_name=bool(names) and tables)


def _check_scale(new: NewSamples, expected: Expected | None, path: Path, any_scale: bool) -> None:
    """Raise an `InputError` if samples are on another scale; with `any_scale` log it as a warning."""
    if expected is None:
        return
    comparison = compare(new, expected)
    if not is_other_scale(comparison):
        return
    message = other_scale_message(comparison, path)
    if not any_scale:
        raise InputError(f"{message} To predict the samples unchanged, add --any-scale.")
    log.warning("%s", message)


def _block_of(
    model: PredictionModel, new: NewSamples, path: Path, watched: Watched
) -> Callable[[int, int], NDArray[np.float64]]:
    """Return a function that computes the predictions of samples `low` to `high` - 1, as rows of `_numbers`."""

    def block(low: int, high: int) -> NDArray[np.float64]:
        if low >= high:  # this rank has no samples in this round
            return np.empty((0, 1 + len(model.classes) + model.has_disagreement))
        raw = np.asarray(new.x[low:high])
        lengths = None if new.lengths is None else new.lengths[low:high]
        values = model.prepared(raw, lengths)
        finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if not finite.all():
            place = low + int(np.argmin(finite))
            name = str(place) if new.ids is None else f"{place} ({new.ids[place]})"
            raise InputError(
                f"{path}: NaN, infinity or a number too large for float32 in sample {name}. Remove or correct it; a "
                "model trained with data.missing = 'mean', 'median' or 'constant' fills missing values."
            )
        outliers, gaps = watched
        if outliers is not None:
            outliers.count(raw, lengths, low)
        if gaps is not None:
            gaps.count(raw, lengths)
        answers = model.predicted(raw, values, lengths)
        _refuse_non_finite(answers.probabilities, new, low, path)
        return _numbers(answers)

    return block


def _numbers(answers: Answers) -> NDArray[np.float64]:
    """Return answers as rows of numbers: the class, the probabilities, and the disagreement if there is one."""
    last = [] if answers.disagreement is None else [answers.disagreement]
    return np.column_stack([answers.predicted, answers.probabilities, *last]).astype(np.float64)


def _block(rows: NDArray[np.float64], classes: int) -> Block:
    """Return the block of rows of `_numbers`."""
    last = rows[:, 1 + classes :].astype(np.float32)
    probabilities = rows[:, 1 : 1 + classes].astype(np.float32)
    return Block(rows[:, 0].astype(np.int64), probabilities, last[:, 0] if last.shape[1] else None)


def _refuse_non_finite(probabilities: Probabilities, new: NewSamples, low: int, path: Path) -> None:
    """Raise an `InputError` if probabilities are not finite; `low` is the index of the first sample."""
    rows = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if not len(rows):
        return
    places = (low + rows[:NAMED]).tolist()
    names = ", ".join(str(place) if new.ids is None else f"{place} ({new.ids[place]})" for place in places)
    more = ", ..." if len(rows) > NAMED else ""
    raise InputError(
        f"{path}: the model gives NaN or infinite probabilities for {len(rows)} of the samples {low} to "
        f"{low + len(probabilities) - 1}: {names}{more}. Nothing is written. Their values or the model's weights are "
        "too large: check these samples, or train again."
    )


def _gathered(
    comm: Communicator,
    block_of: Callable[[int, int], NDArray[np.float64]],
    rows: int,
    model: PredictionModel,
    bar: Progress,
) -> Iterator[Block]:
    """Yield the predictions of all samples in order, on rank 0, one block of each rank per round. Collective."""
    # Ranks compute whole blocks of the reservoir, so that the blocks do not depend on the number of ranks.
    unit = model.batch_rows
    share = math.ceil(rows / comm.size) + unit - 1
    most = min(BLOCK_ROWS, GATHERED_BYTES // (8 * len(model.classes) * comm.size), share)
    size = max(1, most // unit) * unit
    for start in range(0, rows, size * comm.size):
        low = min(rows, start + comm.rank * size)
        block = agree(comm, partial(block_of, low, min(rows, low + size)))
        gathered = comm.gather_rows(block)
        bar.advance(min(rows - start, size * comm.size))
        if gathered is not None:
            yield _block(gathered, len(model.classes))

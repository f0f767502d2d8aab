"""Checks that the settings of the training fit the samples, before the preparation and before the training.

This module does not need torch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from importlib.util import find_spec

from rcdp_hpc.config import Config, PartitionSection, ReadoutSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.shapes import check_augment
from rcdp_hpc.reservoir.connection import check_feature_scaling
from rcdp_hpc.reservoir.kept_steps import input_features, values_kept
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.runtime.ram import machine_memory
from rcdp_hpc.training.states.shifts import check_shifts

log = logging.getLogger(__name__)

Shape = Sequence[int]
# With more features, the sums and factorisations of the ridge readout take longer than most trainings.
BASELINE_WIDTH = 10_000
# With fewer rows in a partition, shuffling within it hardly changes the batches.
FEW_PARTITION_ROWS = 16


def check_sequences(config: Config, sample_shape: Shape, shortest: int | None) -> tuple[int, int] | None:
    """Raise an `InputError` if the settings cannot turn samples into sequences.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    shortest : int or None
        Steps of the shortest sample; None if all have the same length.

    Returns
    -------
    (int, int) or None
        Steps, and features per step, that the reservoir reads; None if only an extractor of the user's own decides.
    """
    reservoir = config.reservoir
    if reservoir.kind == "none" and config.extractor.trained:
        for key, plain in {"series_scaling": "none", "differences": False}.items():
            if getattr(reservoir, key) != plain:
                raise InputError(
                    f"reservoir.{key} changes the input of a reservoir, but with reservoir.kind = 'none' the readout "
                    f"reads the output of the trained extractor: set reservoir.{key} = {str(plain).lower()}"
                )
    shape = extractor_of(config, sample_shape).checked_shape(shortest)
    if shape is None:
        return None
    steps, features = shape
    if reservoir.kind != "none":
        check_feature_scaling(reservoir, input_features(reservoir, features))
    if config.readout.stepwise and values_kept(reservoir, steps) < 2:
        raise InputError(
            f"readout.kind = {config.readout.kind!r} reads several steps, but samples of shape {tuple(sample_shape)} "
            "have one: set readout.kind = 'network' or 'ridge', or a reservoir.sequence of several steps "
            "(with 'pixels', each feature is a step)"
        )
    return steps, features


def check_images(config: Config, sample_shape: Shape, shortest: int | None) -> None:
    """Raise an `InputError` if samples are not images, or too small for the configured shifts and augmentation."""
    check_shifts(config.augment.shifts, sample_shape, shortest)
    if config.augment.changes or config.augment.several_views:
        check_augment(config.augment, sample_shape)


def check_warm_start(config: Config, classes: int) -> None:
    """Raise an `InputError` if the network is too narrow to start as a ridge readout of this many classes."""
    if config.readout.warm_start and (config.readout.outputs < classes or config.readout.hidden < 2 * classes):
        raise InputError(
            f"readout.warm_start passes the scores of {classes} classes through the network: set readout.outputs = "
            f"{classes} or more, not {config.readout.outputs}, and readout.hidden = {2 * classes} or more, not "
            f"{config.readout.hidden}"
        )


def check_warm_start_features(config: Config, sample_shape: Shape) -> None:
    """Raise an `InputError` if a warm start needs a ridge readout of more features than are solved for.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    """
    if not config.readout.warm_start or find_spec("torch") is None:
        return
    features = extractor_of(config, sample_shape).feature_shape().features
    if features > BASELINE_WIDTH:
        raise InputError(
            f"readout.warm_start starts from a ridge readout, and {features} features are too many to solve for (at "
            f"most {BASELINE_WIDTH}): set it to false, or select fewer states"
        )


def check_solved(config: Config, sample_shape: Shape) -> None:
    """Raise an `InputError` if an extreme learning machine has no bands to read, or needs more memory than there is.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    """
    if not config.readout.autoencodes:
        return
    extractor = extractor_of(config, sample_shape)
    bands = extractor.bands if config.readout.bands == "separate" else 1
    if config.readout.bands == "separate" and bands == 1:
        raise InputError(
            f"readout.bands = 'separate' reads frequency bands, and extractor.kind = {config.extractor.kind!r} has "
            "none: set extractor.kind = 'wavelet_packets', or readout.bands = 'joined'"
        )
    if find_spec("torch") is None:  # the preparation; the training checks the memory
        return
    width = extractor.feature_shape().features
    needed, available = elm_bytes(config.readout, width, bands), machine_memory()
    if needed > available:
        raise InputError(
            f"layers of readout.hidden = {config.readout.hidden} units over {width} features need about "
            f"{needed / 2**30:.1f} GiB for their sums, and this machine has {available / 2**30:.1f} GiB: set a smaller "
            "readout.hidden"
        )


def elm_bytes(readout: ReadoutSection, features: int, bands: int = 1) -> int:
    """Return about the bytes that solving an extreme learning machine needs in addition to the states.

    Parameters
    ----------
    readout : ReadoutSection
    features : int
        Features of a sample.
    bands : int
        Machines.
    """
    width = readout.hidden
    inputs = max(math.ceil(features / bands), width if readout.layers > 1 else 0)
    # Two sums and a copy of the first for the solution, the random matrix three times, and the weights.
    layer = 8 * (3 * width * width + 2 * width * inputs) + 8 * 3 * width * inputs
    weights = 4 * width * (math.ceil(features / bands) + (readout.layers - 1) * width)
    return bands * (layer + weights)


def check_ranks(rows: int, ranks: int) -> None:
    """Raise an `InputError` if there are more ranks than training rows."""
    if ranks > rows:
        raise InputError(f"{ranks} ranks for {rows} training rows: start at most {rows} ranks.")


def check_batch(config: Config, rows: int, ranks: int, global_batch: int = 0) -> None:
    """Raise an `InputError` if there are fewer training rows than ranks, partitions, or rows of a step.

    Parameters
    ----------
    config : Config
    rows : int
        Training rows over all ranks.
    ranks : int
    global_batch : int
        Rows of a step over all ranks; 0 is the configured number.
    """
    check_ranks(rows, ranks)
    _check_partitions(config, rows)
    batch = global_batch or config.training.global_batch or config.training.batch * ranks
    if not config.readout.trained or batch <= rows:
        return
    key = "training.global_batch" if config.training.global_batch else "training.batch"
    if ranks == 1:
        raise InputError(f"a batch of {batch} rows is more than the {rows} training rows: set {key} = {rows} or less.")
    raise InputError(
        f"a batch of {batch} rows over {ranks} ranks is more than the {rows} training rows: lower training.batch to a "
        f"rank's share ({rows // ranks} rows) or less (or training.global_batch, if that is set), or start fewer ranks."
    )


def _check_partitions(config: Config, rows: int) -> None:
    """Refuse more partitions than rows, and warn of partitions with few rows."""
    count = config.partition.count
    if count <= PartitionSection.model_fields["count"].default:
        return
    if count > rows:
        raise InputError(
            f"partition.count = {count} is more than the {rows} training rows. Rows are shuffled within their "
            "partition, so no row would be shuffled. Set it to a multiple of the number of ranks; the default is 12."
        )
    if rows < FEW_PARTITION_ROWS * count:
        warn_once(
            log,
            "partitions",
            f"partition.count = {count} gives each partition about {rows / count:.3g} of the {rows} training rows. "
            "Rows are shuffled within their partition only, and states are computed partition by partition, which is "
            "slow: set a smaller number unless you need it",
        )


def warmup_steps(config: Config, steps: int) -> int:
    """Return the steps of the warm-up, in which the learning rate rises.

    Parameters
    ----------
    config : Config
    steps : int
        Steps of an epoch.

    Raises
    ------
    InputError
        If the warm-up is not shorter than the training.
    """
    total = config.training.epochs * steps
    warmup = config.schedule.warmup_steps or round(config.schedule.warmup_epochs * steps)
    if warmup >= total:
        raise InputError(
            f"the warm-up takes {warmup} steps and the training {total} ({config.training.epochs} epochs of {steps}). "
            "Lower schedule.warmup_epochs or schedule.warmup_steps, or raise training.epochs."
        )
    return warmup


def check_speeds(config: Config, ranks: int) -> None:
    """Raise an `InputError` if the number of ``partition.rank_speeds`` is not the number of ranks."""
    if config.partition.load_balance == "rank_speeds" and ranks > 1 and len(config.partition.rank_speeds) != ranks:
        raise InputError(
            f"partition.rank_speeds has {len(config.partition.rank_speeds)} numbers for {ranks} ranks: "
            "set one for each rank, in order, or set partition.load_balance = 'measured' or 'equal'."
        )

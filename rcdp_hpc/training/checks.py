"""Whether settings of the training fit the samples. Needs no torch: preparation asks first, training again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rcdp_hpc.config import Config, PartitionSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.networks.shapes import check_augment
from rcdp_hpc.reservoir.connection import check_feature_scaling
from rcdp_hpc.reservoir.kept_steps import input_features, values_kept
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.training.states.shifts import check_shifts

log = logging.getLogger(__name__)

Shape = Sequence[int]
# With fewer rows, shuffling a slab by itself hardly changes the batches.
FEW_SLAB_ROWS = 16


def check_sequences(config: Config, sample_shape: Shape, shortest: int | None) -> tuple[int, int] | None:
    """Raise an `InputError` if samples cannot be read as the settings say.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    shortest : int or None
        Steps of the shortest sample; None if all samples are whole.

    Returns
    -------
    (int, int) or None
        Steps and features per step that reach the reservoir; None if only a user's own extractor knows.
    """
    reservoir = config.reservoir
    if reservoir.kind == "none" and config.extractor.trained:
        for key, plain in {"series_scaling": "none", "differences": False}.items():
            if getattr(reservoir, key) != plain:
                raise InputError(
                    f"reservoir.{key} changes what drives a reservoir, and with reservoir.kind = 'none' the readout "
                    f"reads the trained extractor's own output: set reservoir.{key} = {str(plain).lower()}"
                )
    shape = extractor_of(config, sample_shape).checked_shape(shortest)
    if shape is None:
        return None
    steps, features = shape
    if reservoir.kind != "none":
        check_feature_scaling(reservoir, input_features(reservoir, features))
    if config.readout.stepwise and values_kept(reservoir, steps) < 2:
        raise InputError(
            f"readout.kind = {config.readout.kind!r} reads several steps, and samples of shape {tuple(sample_shape)} "
            "give it one: set readout.kind = 'network' or 'ridge', or a reservoir.sequence of several steps "
            "('pixels' makes a step of each feature)"
        )
    return steps, features


def check_images(config: Config, sample_shape: Shape, shortest: int | None) -> None:
    """Raise an `InputError` if samples are not images, or too small, for the shifts and changes that are set."""
    check_shifts(config.augment.shifts, sample_shape, shortest)
    if config.augment.changes or config.augment.several_views:
        check_augment(config.augment, sample_shape)


def check_warm_start(config: Config, classes: int) -> None:
    """Raise an `InputError` if the network is too narrow to begin as a ridge readout of this many classes."""
    if config.readout.warm_start and (config.readout.outputs < classes or config.readout.hidden < 2 * classes):
        raise InputError(
            f"readout.warm_start carries the scores of {classes} classes through the network: set readout.outputs = "
            f"{classes} or more, not {config.readout.outputs}, and readout.hidden = {2 * classes} or more, not "
            f"{config.readout.hidden}"
        )


def check_ranks(rows: int, ranks: int) -> None:
    """Raise an `InputError` if there are more ranks than training rows."""
    if ranks > rows:
        raise InputError(f"{ranks} ranks for {rows} training rows: start at most {rows} ranks.")


def check_batch(config: Config, rows: int, ranks: int, global_batch: int = 0) -> None:
    """Raise an `InputError` if there are fewer training rows than ranks, slabs, or than a step takes.

    Parameters
    ----------
    config : Config
    rows : int
        Training rows over all ranks.
    ranks : int
    global_batch : int
        Rows of a step over all ranks; 0 takes the setting.
    """
    check_ranks(rows, ranks)
    _check_slabs(config, rows)
    taken = global_batch or config.training.global_batch or config.training.batch * ranks
    if not config.readout.trained or taken <= rows:
        return
    key = "training.global_batch" if config.training.global_batch else "training.batch"
    if ranks == 1:
        raise InputError(f"a batch of {taken} rows is more than the {rows} training rows: set {key} = {rows} or less.")
    raise InputError(
        f"a batch of {taken} rows over {ranks} ranks is more than the {rows} training rows: lower training.batch to a "
        f"rank's slab ({rows // ranks} rows) or less (or training.global_batch, if that is set), or start fewer ranks."
    )


def _check_slabs(config: Config, rows: int) -> None:
    """Refuse more slabs than rows, and warn of slabs with few rows: each is shuffled and computed by itself."""
    slabs = config.partition.count
    if slabs <= PartitionSection.model_fields["count"].default:
        return
    if slabs > rows:
        raise InputError(
            f"partition.count = {slabs} is more than the {rows} training rows: no row would be shuffled, since that is "
            "done within a slab. Set it to a multiple of the number of ranks; the default is 12."
        )
    if rows < FEW_SLAB_ROWS * slabs:
        warn_once(
            log,
            "slabs",
            f"partition.count = {slabs} leaves about {rows / slabs:.3g} of the {rows} training rows to a partition: "
            "rows are shuffled within their partition only, and states are computed partition by partition, which is "
            "slow. Lower it unless you need it",
        )


def warmup_steps(config: Config, steps: int) -> int:
    """Return the steps in which the learning rate rises, of a training with `steps` an epoch.

    Raises
    ------
    InputError
        If they are not fewer than those of the training.
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
    """Raise an `InputError` if ``partition.rank_speeds`` has not one number for each rank."""
    if config.partition.load_balance == "rank_speeds" and ranks > 1 and len(config.partition.rank_speeds) != ranks:
        raise InputError(
            f"partition.rank_speeds has {len(config.partition.rank_speeds)} numbers for {ranks} ranks: "
            "give one for each, in the order of ranks, or set partition.load_balance = 'measured' or 'equal'."
        )

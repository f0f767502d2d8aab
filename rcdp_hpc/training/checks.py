"""Whether settings of the training fit the samples. Needs no torch: preparation asks first, training again."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from rcdp_hpc.config import STEPWISE, AugmentSection, Config, ExtractorSection, TrainingSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import check_feature_scaling
from rcdp_hpc.reservoir.cutting import Cut
from rcdp_hpc.reservoir.kept_steps import check_length, check_samples, check_steps, input_features, values_kept
from rcdp_hpc.runtime.logs import warn_once
from rcdp_hpc.training.shifts import check_shifts

log = logging.getLogger(__name__)

Shape = Sequence[int]
# The kernels of ``training.extractor.kind = "kernels"``, and the values that each of them reads.
KERNELS, KERNEL_STEPS = 84, 9
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
    training, reservoir = config.training, config.reservoir
    kind = training.extractor.kind
    if reservoir.kind == "none" and training.extractor.trained:
        for key, plain in {"series_scaling": "none", "differences": False}.items():
            if getattr(reservoir, key) != plain:
                raise InputError(
                    f"reservoir.{key} changes what drives a reservoir, and with reservoir.kind = 'none' the readout "
                    f"reads the trained extractor's own output: set reservoir.{key} = {str(plain).lower()}"
                )
    if kind in ("none", "kernels"):
        # Test samples count too: one too short for what is kept would end a long training in its evaluation.
        steps, features = Cut.of(reservoir).shape(sample_shape)
        if reservoir.kind != "none":
            check_samples(reservoir, sample_shape, shortest)
        else:
            check_steps(reservoir, steps)
        if reservoir.kind == "none" and shortest is not None:
            Cut.of(reservoir).lengths([shortest])
        if kind == "kernels":
            kernel_steps(steps, sample_shape)
    else:
        found = _extracted(training.extractor, sample_shape, shortest)
        if found is None:
            return None
        steps, features = found
        if reservoir.kind != "none":
            check_length(reservoir, steps)
        check_steps(reservoir, steps)
    if reservoir.kind != "none":
        check_feature_scaling(reservoir, input_features(reservoir, features))
    if training.readout in STEPWISE and values_kept(reservoir, steps) < 2:
        raise InputError(
            f"training.readout = {training.readout!r} reads several steps, and samples of shape {tuple(sample_shape)} "
            "give it one: set training.readout = 'network' or 'ridge', or a reservoir.sequence of several steps "
            "('pixels' makes a step of each feature)"
        )
    return steps, features


def check_images(training: TrainingSection, sample_shape: Shape, shortest: int | None) -> None:
    """Raise an `InputError` if samples are not images, or too small, for the shifts and changes that are set."""
    check_shifts(training.shifts, sample_shape, shortest)
    if training.augment.changes or training.augment.several_views:
        check_augment(training.augment, sample_shape)


def check_augment(settings: AugmentSection, sample_shape: Shape) -> None:
    """Raise an `InputError` if samples are not images, or are to be mirrored at their edges further than they reach."""
    if len(sample_shape) < 2:
        raise InputError(
            f"[training.augment] changes images, and samples of shape {tuple(sample_shape)} are none: leave it out"
        )
    crop = settings.crop if settings.edges == "reflect" else 0
    for key, places in (("crop", crop), ("test_shift", settings.test_shift)):
        if places >= min(sample_shape[:2]):
            raise InputError(
                f"training.augment.{key} = {places} mirrors images of {sample_shape[0]} x {sample_shape[1]} at their "
                f"edges: take at most {min(sample_shape[:2]) - 1}"
            )


def check_extractor_lengths(settings: ExtractorSection, shortest: int | None) -> None:
    """Raise an `InputError` if samples have lengths of their own, which most extractors cannot read."""
    if settings.kind not in ("none", "kernels") and shortest is not None:
        raise InputError(
            f"training.extractor.kind = {settings.kind!r} reads samples of one length, and these have lengths of their "
            "own: set it to 'none' or 'kernels'"
        )


def kernel_steps(steps: int, sample_shape: Shape) -> None:
    """Raise an `InputError` if samples have fewer steps than the nine that a convolution kernel reads."""
    if steps < KERNEL_STEPS:
        raise InputError(
            f"training.extractor.kind = 'kernels' needs series of at least {KERNEL_STEPS} steps, samples of shape "
            f"{tuple(sample_shape)} have {steps}: set training.extractor.kind = 'none', or a reservoir.sequence of "
            "more steps ('pixels' makes a step of each feature)"
        )


def feature_shares(settings: ExtractorSection) -> list[int]:
    """Return how many biases each convolution kernel has for each of its inputs.

    The first input takes twice as many as each other.
    """
    total, others = round(settings.kernels / KERNELS), len(settings.kernel_inputs) - 1
    each = total // (others + 2) if others else 0
    return [total - others * each, *[each] * others]


def kernel_features(settings: ExtractorSection) -> int:
    """Return the number of features of the convolution kernels."""
    return KERNELS * sum(feature_shares(settings))


def convolution_map(sample_shape: Shape, channels: Sequence[int], whitening: int) -> tuple[int, int]:
    """Return height and width of the map of the convolution extractor.

    Raises
    ------
    InputError
        If the samples are not images, or too small.
    """
    lost = max(0, whitening - 1)
    height, width = (max(0, length - lost) // 2 ** len(channels) for length in (*sample_shape, 0)[:2])
    if len(sample_shape) not in (2, 3) or not height or not width:
        least = 2 ** len(channels) + lost
        raise InputError(
            f"training.extractor.kind = 'convolution' with {len(channels)} stages needs images of at least "
            f"{least} x {least}, these samples have the shape {tuple(sample_shape)}: take fewer "
            "training.extractor.channels, or another extractor"
        )
    return height, width


def dictionary_map(settings: ExtractorSection, sample_shape: Shape) -> tuple[int, int]:
    """Return height and width of the map of the dictionary, before it is pooled.

    Raises
    ------
    InputError
        If the samples are not images, or too small for the patches or the regions.
    """
    if len(sample_shape) not in (2, 3) or min(sample_shape[:2]) < settings.patch:
        raise InputError(
            f"training.extractor.kind = 'dictionary' needs images of at least {settings.patch} x {settings.patch} "
            f"(training.extractor.patch), these samples have the shape {tuple(sample_shape)}: lower it, or take "
            "another extractor"
        )
    height, width = ((length - settings.patch) // settings.stride + 1 for length in sample_shape[:2])
    if min(height, width) < settings.pool:
        raise InputError(
            f"training.extractor.pool = {settings.pool}: the map has {height} x {width} places, fewer than "
            "regions: lower it, or training.extractor.patch or stride"
        )
    return height, width


def check_warm_start(settings: TrainingSection, classes: int) -> None:
    """Raise an `InputError` if the network is too narrow to begin as a ridge readout of this many classes."""
    if settings.warm_start and (settings.outputs < classes or settings.hidden < 2 * classes):
        raise InputError(
            f"training.warm_start carries the scores of {classes} classes through the network: set training.outputs = "
            f"{classes} or more, not {settings.outputs}, and training.hidden = {2 * classes} or more, not "
            f"{settings.hidden}"
        )


def check_ranks(rows: int, ranks: int) -> None:
    """Raise an `InputError` if there are more ranks than training rows."""
    if ranks > rows:
        raise InputError(f"{ranks} ranks for {rows} training rows: start at most {rows} ranks.")


def check_batch(settings: TrainingSection, rows: int, ranks: int, global_batch: int = 0) -> None:
    """Raise an `InputError` if there are fewer training rows than ranks, slabs, or than a step takes.

    Parameters
    ----------
    settings : TrainingSection
    rows : int
        Training rows over all ranks.
    ranks : int
    global_batch : int
        Rows of a step over all ranks; 0 takes the setting.
    """
    check_ranks(rows, ranks)
    _check_slabs(settings, rows)
    taken = global_batch or settings.global_batch or settings.batch * ranks
    if settings.readout == "ridge" or taken <= rows:
        return
    key = "training.global_batch" if settings.global_batch else "training.batch"
    if ranks == 1:
        raise InputError(f"a batch of {taken} rows is more than the {rows} training rows: set {key} = {rows} or less.")
    raise InputError(
        f"a batch of {taken} rows over {ranks} ranks is more than the {rows} training rows: lower training.batch to a "
        f"rank's slab ({rows // ranks} rows) or less (or training.global_batch, if that is set), or start fewer ranks."
    )


def _check_slabs(settings: TrainingSection, rows: int) -> None:
    """Refuse more slabs than rows, and warn of slabs with few rows: each is shuffled and computed by itself."""
    slabs = settings.slabs
    if slabs <= TrainingSection.model_fields["slabs"].default:
        return
    if slabs > rows:
        raise InputError(
            f"training.slabs = {slabs} is more than the {rows} training rows: no row would be shuffled, since that is "
            "done within a slab. Set it to a multiple of the number of ranks; the default is 12."
        )
    if rows < FEW_SLAB_ROWS * slabs:
        warn_once(
            log,
            "slabs",
            f"training.slabs = {slabs} leaves about {rows / slabs:.3g} of the {rows} training rows to a slab: rows are "
            "shuffled within their slab alone, and states are computed slab by slab, which is slow. Lower it unless "
            "that is meant",
        )


def warmup_steps(settings: TrainingSection, steps: int) -> int:
    """Return the steps in which the learning rate rises, of a training with `steps` an epoch.

    Raises
    ------
    InputError
        If they are not fewer than those of the training.
    """
    total = settings.epochs * steps
    warmup = settings.warmup_steps or round(settings.warmup_epochs * steps)
    if warmup >= total:
        raise InputError(
            f"the warm-up takes {warmup} steps and the training {total} ({settings.epochs} epochs of {steps}). Lower "
            "training.warmup_epochs or training.warmup_steps, or raise training.epochs."
        )
    return warmup


def check_speeds(settings: TrainingSection, ranks: int) -> None:
    """Raise an `InputError` if ``training.speeds`` has not one number for each rank."""
    if settings.allotment == "speeds" and ranks > 1 and len(settings.speeds) != ranks:
        raise InputError(
            f"training.speeds has {len(settings.speeds)} numbers for {ranks} ranks: give one for each, in the order of "
            "ranks, or set training.allotment = 'measured' or 'equal'."
        )


def _extracted(settings: ExtractorSection, sample_shape: Shape, shortest: int | None) -> tuple[int, int] | None:
    """Return the steps and features of an extractor's sequences, None for a class of the user's own."""
    check_extractor_lengths(settings, shortest)
    by_row = settings.sequence == "rows"
    if settings.kind == "dictionary":
        dictionary_map(settings, sample_shape)
        channels, (height, width) = 2 * settings.atoms, (settings.pool, settings.pool)
    elif settings.kind == "convolution":
        height, width = convolution_map(sample_shape, settings.channels, settings.whitening)
        channels = settings.channels[-1]
    else:
        return None
    return (height if by_row else height * width), channels * (width if by_row else 1)

"""Checks of the criteria that a training chooses by, before any state is computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices.chosen_by import named_criterion
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.criteria import Criterion, criterion
from rcdp_hpc.runtime.text import plain_name

if TYPE_CHECKING:
    from rcdp_hpc.data.shards.reader import ShardReader

log = logging.getLogger(__name__)

# Classes that a message names.
NAMED_CLASSES = 10


def validation_criterion(config: Config, classes: Sequence[str]) -> Criterion | None:
    """Return the criterion of ``training.criterion``; None for the loss.

    Raises
    ------
    InputError
        If it is the recall of a class that does not exist.
    """
    name = named_criterion(config.training.criterion)
    return None if name is None else criterion(name, classes)


def check_criteria(config: Config, classes: Sequence[str]) -> None:
    """Raise an `InputError` if a criterion is the recall of a class that does not exist.

    Parameters
    ----------
    config : Config
    classes : sequence of str
        Class names.
    """
    check_class("readout.ridge_criterion", config.readout.ridge_criterion, classes)
    check_class("training.criterion", config.training.criterion, classes)


def check_class(key: str, value: str, classes: Sequence[str]) -> None:
    """Raise an `InputError` that names the key if its value is the recall of a class that does not exist."""
    name = named_criterion(value)
    if name is None:
        return
    try:
        criterion(name, classes)
    except InputError as error:
        raise InputError(f"{key} = {error}") from None


def check_on_shards(config: Config, shards: ShardReader) -> None:
    """Raise an `InputError` if a criterion of the training is undefined on the rows that it is computed on.

    Parameters
    ----------
    config : Config
    shards : ShardReader
    """
    check_criteria(config, shards.classes)
    validation = shards.class_counts("validation")
    if (by := validation_criterion(config, shards.classes)) is not None and config.readout.trained:
        refuse_undefined(by, "training.criterion", validation, "the validation rows")
    name = named_criterion(config.readout.ridge_criterion)
    if name is None or (config.readout.trained and not config.training.baseline):
        return
    # Leave-one-out scores the original training rows, too.
    left_out = config.readout.ridge_selection != "validation"
    counts = validation + (shards.class_counts("train") if left_out else 0)
    rows = "the rows that choose the ridge penalty"
    refuse_undefined(criterion(name, shards.classes), "readout.ridge_criterion", counts, rows)


def refuse_undefined(by: Criterion, key: str, counts: NDArray[np.integer[Any]], rows: str) -> None:
    """Raise an `InputError` if rows leave a criterion undefined; warn about classes that it says nothing about.

    Parameters
    ----------
    by : Criterion
    key : str
        The dotted key that names it.
    counts : ndarray, shape (classes,)
        Rows of each class.
    rows : str
        What the rows are, for messages.
    """
    reason = by.undefined(np.flatnonzero(counts), by.classes)
    if reason is not None:
        raise InputError(
            f"{key} = {by.name!r} is undefined on {rows}: {reason}. Choose another criterion, or "
            "another split (run.seed, data.validation_fraction) that has rows of the class."
        )
    absent = [plain_name(by.classes[label]) for label in np.flatnonzero(np.asarray(counts) == 0)]
    if absent:
        more = f" and {len(absent) - NAMED_CLASSES} more" if len(absent) > NAMED_CLASSES else ""
        listed = ", ".join(absent[:NAMED_CLASSES]) + more
        log.warning(
            "%s: there are no rows of %s among %s; %s says nothing about them", key, listed, rows, plain_name(by.name)
        )

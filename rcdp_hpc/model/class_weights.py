"""Weights of the rows of each class: one function for the loss of a trained network and for every solved readout.

The weights depend on the numbers of training rows n_c of the classes only. They are scaled to the mean 1 over the N
training rows, ``sum_c n_c w_c = N``, so that a ridge penalty per row keeps its meaning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config, LossSection
from rcdp_hpc.config.choices.losses import loss_choice
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)

# Classes whose numbers of rows differ by less have weights that differ by less.
EVEN = 1.01


def class_weights(settings: LossSection, counts: NDArray[np.integer]) -> NDArray[np.float64] | None:
    """Return the weight of a row of each class.

    ==============  ==============================================================================================
    class_weights   weight of a row of class c, before the scaling to the mean 1
    ==============  ==============================================================================================
    ``balanced``    ``1 / n_c``
    ``effective``   ``(1 - b) / (1 - b^n_c)`` with b = ``loss.effective_beta``: one over the effective number of
                    samples (Cui et al., "Class-balanced loss based on effective number of samples", 2019)
    ==============  ==============================================================================================

    Parameters
    ----------
    settings : LossSection
    counts : numpy.ndarray of int, shape (classes,)
        Training rows of each class, over all ranks.

    Returns
    -------
    numpy.ndarray, shape (classes,), float64, or None
        None if ``loss.class_weights = "none"``.

    Raises
    ------
    InputError
        If a class has no row.
    """
    kind = settings.class_weights
    if kind == "none":
        return None
    if not counts.all():
        raise InputError(
            f"loss.class_weights = {kind!r} needs training rows of every class, and class number "
            f"{int(np.argmin(counts))} has none: set it to 'none', or add samples of this class."
        )
    if kind == "balanced":
        return np.asarray(counts.sum() / (len(counts) * counts))
    # 1 - b^n without the loss of digits for b near 1. The factor 1 - b is lost in the scaling.
    effective = -np.expm1(counts * np.log(settings.effective_beta))
    return np.asarray(counts.sum() / ((counts / effective).sum() * effective))


def report_settings_without_effect(config: Config, counts: NDArray[np.integer]) -> None:
    """Log a warning about settings for uneven classes that have no effect because the training rows are even.

    Parameters
    ----------
    config : Config
        Sections ``loss``, ``readout`` and ``data``.
    counts : numpy.ndarray of int, shape (classes,)
        Training rows of each class, over all ranks and including synthetic rows.
    """
    if counts.max() > EVEN * counts.min():
        return
    balance = config.data.balance
    reason = "the data are even" if balance == "none" else f"data.balance = {balance!r} made them even"
    for setting in _for_uneven_classes(config):
        log.warning("%s has no effect: every class has %d training rows, %s", setting, int(counts.max()), reason)


def _for_uneven_classes(config: Config) -> Iterator[str]:
    if config.loss.class_weights != "none":
        yield f"loss.class_weights = {config.loss.class_weights!r}"
    if config.readout.trained and loss_choice(config.loss.kind).reads_class_counts:
        yield f"loss.kind = {config.loss.kind!r}"

"""The interface of schedules."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from rcdp_hpc.config import ScheduleSection


class Schedule(ABC):
    """The learning rate of each step, as a factor of its peak.

    The factor must depend on the arguments of the methods and the constructor only: all ranks compute it, and a resumed
    training computes it again.

    Parameters
    ----------
    settings : ScheduleSection
        The section ``[schedule]``.
    steps : int
        Steps of an epoch.
    epochs : int
        Epochs of the training.
    warmup : int
        Steps of the warm-up.

    Attributes
    ----------
    total : int
        Steps of the training.
    linear_warmup : bool
        Whether the rate rises linearly in the warm-up. `factor` is then asked for later steps only.
    """

    linear_warmup: ClassVar[bool] = True

    def __init__(self, settings: ScheduleSection, steps: int, epochs: int, warmup: int) -> None:
        self.settings = settings
        self.steps = steps
        self.total = epochs * steps
        self.warmup = warmup

    @abstractmethod
    def factor(self, epoch: int, t: int) -> float:
        """Return the factor of a step, 0 or more.

        Parameters
        ----------
        epoch : int
            The epoch, from 0.
        t : int
            The step, counted from 0 over the whole training.
        """

    def close_epoch(self, epoch: int, validation_loss: float) -> None:  # noqa: B027 - optional
        """Take the validation loss at the end of an epoch into account; does nothing by default."""

    def state(self) -> dict[str, float]:
        """Return the numbers, by name, that `close_epoch` changed; none by default."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:  # noqa: B027 - optional
        """Continue from a state; does nothing by default."""


def half_cosine(progress: float) -> float:
    """Return half a cosine: 1 at progress 0, 0 at progress 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))

"""Losses that depend on the number of training rows of each class."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.by_device import ByDevice
from rcdp_hpc.networks.losses.base import Loss


class CountedLoss(Loss):
    """A loss with one constant for each class, which follows from the rows of the classes.

    Attributes
    ----------
    kind : str
        Its name in the table, for messages.
    """

    kind: str
    _constants: ByDevice | None = None

    @abstractmethod
    def constants_of(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the constant of each class from its training rows, both of shape (classes,)."""

    def use_class_counts(self, counts: NDArray[np.integer]) -> None:
        """Set the constants; parameters as `Loss.use_class_counts`.

        Raises
        ------
        InputError
            If a class has no row.
        """
        if not counts.all():
            raise InputError(
                f"loss.kind = {self.kind!r} needs training rows of every class, and class number "
                f"{int(np.argmin(counts))} has none: choose another loss, or add samples of this class."
            )
        self._constants = ByDevice(torch.from_numpy(self.constants_of(counts.astype(np.float64))))

    def constants(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the constants on the device and in the dtype of the scores, shape (classes,)."""
        if self._constants is None:
            raise ValueError(f"{type(self).__name__}: use_class_counts must be called before the loss")
        (constants,) = self._constants.on(scores.device)
        return constants.to(scores.dtype)

"""The objective of the training: the weighted mean of a loss over the rows of the global batch."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.class_weights import class_weights
from rcdp_hpc.networks.by_device import ByDevice
from rcdp_hpc.networks.losses import load_loss
from rcdp_hpc.training.optim.distillation import distillation_loss

Mixed = tuple[torch.Tensor, torch.Tensor]


class Objective:
    """The weighted mean of a loss over the rows of the global batch.

    ``sum_i w_i l_i / sum_i w_i``, both sums over all ranks, with w_i = 1, or with ``loss.class_weights =
    "balanced"`` the weight N / (C n_c) of row i's class c: N training rows, C classes, n_c rows of class c
    (`rcdp_hpc.model.class_weights`; in the training from the epoch ``loss.weights_from_epoch`` on). The target is the
    one-hot label, smoothed to ``(1 - s) y + s / C`` with s = ``loss.label_smoothing`` (Szegedy et al. 2016).

    For rows with a teacher, l_i is ``(1 - a) l + a T^2 KL`` (`rcdp_hpc.training.optim.distillation`), with a =
    ``loss.teacher_weight`` and T = ``loss.teacher_temperature``. Validation rows have no teacher.

    Parameters
    ----------
    config : Config
        ``loss`` is read.
    class_counts : ndarray of int, shape (classes,)
        Training rows of each class, over all ranks.

    Raises
    ------
    InputError
        If there are class weights, or the loss needs class sizes, and a class has no row; if the loss breaks its
        contract, or if its link is not the softmax and there is a teacher.
    """

    def __init__(self, config: Config, class_counts: NDArray[np.int64]) -> None:
        self.classes = len(class_counts)
        self.smoothing = config.loss.label_smoothing
        self.loss = load_loss(config.loss, self.classes, class_counts)
        self.teacher_weight = config.loss.teacher_weight
        self.temperature = config.loss.teacher_temperature
        if config.loss.teacher and self.loss.has_own_link:
            raise InputError(
                f"loss.teacher needs a loss whose probabilities are the softmax of the scores, and loss.kind = "
                f"{config.loss.kind!r} has a link of its own: set loss.kind = 'cross_entropy', or remove loss.teacher."
            )
        weights = class_weights(config.loss, class_counts)
        self.class_weights = None if weights is None else torch.from_numpy(weights)
        self.weights_from_epoch = config.loss.weights_from_epoch
        one_hot = torch.eye(self.classes)
        # The target of each class, by device: with smoothing, and without it for rows that are mixed.
        self._tables = ByDevice(self._smooth(one_hot), one_hot)
        self._weights = None if self.class_weights is None else ByDevice(self.class_weights)
        # Of the current epoch, by device.
        self._epoch_weights = None if self.class_weights is None else ByDevice(self.class_weights.clone())

    def _smooth(self, targets: torch.Tensor) -> torch.Tensor:
        return targets * (1 - self.smoothing) + self.smoothing / self.classes if self.smoothing else targets

    def begin_epoch(self, epoch: int) -> None:
        """Set the weights of an epoch of the training, from 0: all 1 before ``loss.weights_from_epoch``."""
        if self._epoch_weights is not None and self.class_weights is not None and self.weights_from_epoch:
            begun = epoch >= self.weights_from_epoch
            self._epoch_weights.assign(self.class_weights if begun else torch.ones_like(self.class_weights))

    def weights(self, labels: torch.Tensor, *, of_epoch: bool = False) -> torch.Tensor:
        """Return the weight of each row, float64, shape (rows,).

        Parameters
        ----------
        labels : torch.Tensor, shape (rows,), int64
        of_epoch : bool
            Whether they are the weights of the current epoch of the training; otherwise those of the validation.
        """
        tables = self._epoch_weights if of_epoch else self._weights
        if tables is None:
            return torch.ones(len(labels), dtype=torch.float64, device=labels.device)
        (weights,) = tables.on(labels.device)
        return weights[labels]

    def sum(
        self,
        scores: torch.Tensor,
        labels: torch.Tensor,
        mixed: Mixed | None = None,
        teacher: torch.Tensor | None = None,
        *,
        of_epoch: bool = False,
    ) -> torch.Tensor:
        """Return the weighted sum of the loss over rows.

        Parameters
        ----------
        scores : torch.Tensor, shape (rows, classes)
        labels : torch.Tensor, shape (rows,), int64
            Classes of the rows; they decide the weights.
        mixed : (torch.Tensor, torch.Tensor), optional
            For mixed rows: the classes j of their partners, and the share m of each row itself. The target is then
            ``m y_i + (1 - m) y_j``.
        teacher : torch.Tensor, shape (rows, classes), optional
            Probabilities of the teacher at the temperature T; mixed like the rows.
        of_epoch : bool
            As `weights`.
        """
        rows = self.loss(scores, self._targets(labels, mixed).to(scores.dtype))
        if teacher is not None:
            imitation = distillation_loss(scores, teacher, self.temperature)
            rows = (1 - self.teacher_weight) * rows + self.teacher_weight * imitation
        if self.class_weights is None:
            return rows.sum()
        return (rows * self.weights(labels, of_epoch=of_epoch).to(rows.dtype)).sum()

    def _targets(self, labels: torch.Tensor, mixed: Mixed | None) -> torch.Tensor:
        """Return the target of each row, shape (rows, classes), float32; parameters as `sum`."""
        smoothed, one_hot = self._tables.on(labels.device)
        if mixed is None:
            return smoothed[labels]
        return self._smooth(one_hot[labels].lerp(one_hot[mixed[0]], 1 - mixed[1][:, None]))

"""Loading the loss that a configuration names, and checking that it keeps the contract of `Loss`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rcdp_hpc.config import LossSection
from rcdp_hpc.config.choices import LOSSES, is_user_class
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.losses.base import FunctionLoss, Loss
from rcdp_hpc.networks.losses.link_check import broken, check_link
from rcdp_hpc.runtime.user_code import load_choice

ROWS = 5


def load_loss(settings: LossSection, classes: int, counts: NDArray[np.integer] | None = None) -> Loss:
    """Return the loss of ``loss.kind`` for the training rows of each class, after a check on a few rows.

    Parameters
    ----------
    settings : LossSection
        ``kind`` is a name of the table, ``module:function`` or ``module:Class``. A class that is not derived from
        `Loss` is created without arguments, and its instances must be functions of scores and targets. If it has a
        method ``probabilities``, this is its link; a method ``use_class_counts`` gets the counts.
    classes : int
        Number of classes.
    counts : numpy.ndarray of int, shape (classes,), optional
        Training rows of each class, over all ranks; default: 1, 2, ... rows, for a check alone.

    Raises
    ------
    InputError
        If it cannot be imported or created, breaks the contract of `Loss`, or is not defined for the counts.
    """
    loss = loss_of(settings)
    _count(settings.kind, loss, np.arange(1, classes + 1) if counts is None else counts)
    _check(settings.kind, loss, classes)
    check_link(settings.kind, loss, classes)
    return loss


def loss_of(settings: LossSection) -> Loss:
    """Return the loss of ``loss.kind`` without the check of `load_loss`; parameters and errors as there."""
    return _instance(settings, load_choice(LOSSES, settings.kind))


def has_own_link(settings: LossSection) -> bool:
    """Return whether probabilities need code of the user: whether a loss of the user's own is not linked by softmax."""
    return is_user_class(settings.kind) and loss_of(settings).has_own_link


def _instance(settings: LossSection, target: Any) -> Loss:
    name = settings.kind
    if isinstance(target, type):
        try:
            target = target.of(settings) if issubclass(target, Loss) else target()
        except Exception as error:  # the user's class may raise any error
            raise broken(name, f"{name}() failed ({type(error).__name__}: {error}); expected no arguments") from None
    if isinstance(target, Loss):
        return target
    if isinstance(target, nn.Module):
        target = target.requires_grad_(False)
    if not callable(target):
        raise broken(name, "instances of the class are not functions; expected rcdp_hpc.networks.losses.Loss")
    return FunctionLoss(target, getattr(target, "probabilities", None), getattr(target, "use_class_counts", None))


def _count(name: str, loss: Loss, counts: NDArray[np.integer]) -> None:
    try:
        loss.use_class_counts(counts.copy())
    except InputError:
        raise
    except Exception as error:  # the user's class may raise any error
        call = f"use_class_counts called with {len(counts)} counts"
        raise broken(name, f"{call} failed ({type(error).__name__}: {error})") from None


def _check(name: str, loss: Loss, classes: int) -> None:
    generator = torch.get_rng_state()
    scores, targets = _example(classes)
    rows = _rows(name, loss, scores, targets)
    if not torch.equal(scores.detach(), _example(classes)[0]) or not torch.equal(targets, _example(classes)[1]):
        raise broken(name, "it changes its arguments; expected a new tensor")
    if not bool(torch.isfinite(rows).all()):
        raise broken(name, f"the loss of {ROWS} rows with scores between -3 and 3 is {rows.tolist()}; expected numbers")
    if not torch.equal(_rows(name, loss, scores, targets), rows):
        raise broken(name, "it returns other values at the second call; expected the same")
    if not torch.equal(torch.get_rng_state(), generator):
        raise broken(name, "it draws random numbers, so that ranks and repeated trainings would differ")
    single = [_rows(name, loss, scores[row : row + 1], targets[row : row + 1]) for row in range(ROWS)]
    if not torch.allclose(torch.cat(single), rows, rtol=1e-4, atol=1e-6):
        raise broken(name, "the loss of a row depends on the other rows; expected each row by itself")
    _rows(name, loss, scores[:0], targets[:0])
    _check_gradient(name, rows, scores)


def _example(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores and targets of a few rows, the same at each call."""
    count = ROWS * classes
    scores = 3 * torch.sin(torch.arange(count, dtype=torch.float32) ** 2).view(ROWS, classes)
    targets = torch.eye(classes)[torch.arange(ROWS) % classes]
    targets[-1] = 1 / classes
    return scores, targets


def _check_gradient(name: str, rows: torch.Tensor, scores: torch.Tensor) -> None:
    """Check that the loss can be minimised."""
    try:
        (gradient,) = torch.autograd.grad(rows.sum(), scores)
    except RuntimeError as error:
        raise broken(name, f"it has no gradient by the scores ({' '.join(str(error).split())})") from None
    if not bool(torch.isfinite(gradient).all()):
        raise broken(name, "its gradient by the scores is not finite")


def _rows(name: str, loss: Loss, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if not scores.requires_grad:
        scores.requires_grad_(True)
    call = f"called with scores and targets of shape {tuple(scores.shape)}"
    try:
        rows = loss(scores, targets)
    except Exception as error:  # the user's function may raise any error
        raise broken(name, f"{call}, it failed ({type(error).__name__}: {error})") from None
    expected = (len(scores),)
    if not isinstance(rows, torch.Tensor) or (rows.shape, rows.dtype) != (expected, scores.dtype):
        found = f"a tensor {tuple(rows.shape)}, {rows.dtype}" if isinstance(rows, torch.Tensor) else type(rows).__name__
        raise broken(
            name, f"{call}, it returned {found}; expected the loss of each row, a tensor {expected}, {scores.dtype}"
        )
    return rows

"""Checks of the sequences that drive a reservoir and of its states: lengths, and values that are not finite."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.errors import CandidateError, InputError


def checked_lengths(lengths: ArrayLike, u: Tensor) -> Tensor:
    """Return the lengths of sequences as a tensor on their device, after a check.

    Parameters
    ----------
    lengths : array of int, shape (batch,)
    u : torch.Tensor, shape (batch, steps, features)

    Returns
    -------
    torch.Tensor, shape (batch,), int64

    Raises
    ------
    InputError
        If there is not one length per sequence, or a length is not between 1 and the number of steps.
    """
    checked = torch.as_tensor(lengths).to(u.device, torch.int64)
    if checked.shape != (len(u),):
        raise InputError(f"lengths of shape {tuple(checked.shape)}: expected one for each of {len(u)} sequences")
    wrong = ((checked < 1) | (checked > u.shape[1])).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"row {row} has length {int(checked[row])}: expected 1 to {u.shape[1]}, the number of steps")
    return checked


def blanked(u: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the sequences with 0 after their ends."""
    if lengths is None:
        return u
    inside = torch.arange(u.shape[1], device=u.device) < lengths[:, None]
    return u.masked_fill(~inside[..., None], 0)


def check_input(u: Tensor, lengths: Tensor | None = None) -> None:
    """Raise a `CandidateError` that names the first value that is not finite, if there is one.

    Parameters
    ----------
    u : torch.Tensor, shape (batch, steps, features)
    lengths : torch.Tensor, shape (batch,), optional
        Steps of each sequence; padding may hold any values.
    """
    if not u.is_floating_point() or _all_finite(u):
        return
    wrong = (~torch.isfinite(blanked(u, lengths))).nonzero()
    if len(wrong):
        row, step, feature = wrong[0].tolist()
        raise CandidateError(
            f"row {row} of the batch holds {float(u[row, step, feature])} (step {step}, feature {feature}), which is "
            "not finite: correct or remove this sample"
        )


def check_states(states: Tensor) -> None:
    """Raise a `CandidateError` if a feature of the states, shape (batch, width), is not finite."""
    if _all_finite(states):
        return
    row = int((~torch.isfinite(states).all(1)).nonzero()[0])
    raise CandidateError(
        f"reservoir states are not finite (row {row} overflows): lower reservoir.input_scaling and the size "
        "of the recurrent weights, or choose a bounded reservoir.activation"
    )


def _all_finite(values: Tensor) -> bool:
    """Return whether all values are finite. If their sum is, they are; a sum is several times as fast."""
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())

"""Reservoir states of sequences of unequal length: padding never drives the reservoir."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from numpy.typing import NDArray

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.states import Reservoir


def states_of(reservoir: Reservoir, sequences: Any, lengths: NDArray[Any] | None, **options: Any) -> torch.Tensor:
    """Return the states of sequences, each driven for its own length.

    Parameters
    ----------
    reservoir : Reservoir
        The fixed network.
    sequences : array, shape (rows, steps, features)
        Padded sequences.
    lengths : ndarray of int, shape (rows,), or None
        Steps of each that hold data; None where all are whole.
    **options
        Handed on to ``Reservoir.states``.

    Raises
    ------
    InputError
        If rows have lengths and the reservoir cannot stop at them, or the steps of the reservoir are not those of the
        sequences (``reservoir.sequence``).
    """
    if lengths is None:
        return reservoir.states(sequences, **options)
    if reservoir.settings.sequence != "rows":
        raise InputError(
            f"reservoir.sequence = '{reservoir.settings.sequence}' does not follow the steps of sequences of unequal "
            "length: take 'rows'."
        )
    if "lengths" not in inspect.signature(reservoir.states).parameters:
        raise InputError(
            "these shards hold sequences of unequal length, and this version's reservoir would be driven by their "
            "padding: cut the series to one length before preparation."
        )
    states: torch.Tensor = reservoir.states(sequences, **{"lengths": lengths, **options})
    return states

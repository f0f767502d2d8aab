"""Checks of the sequences that drive a reservoir and of its states: lengths, and values that are not finite."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rcdp_hpc.errors import CandidateError, InputError

BlockT = TypeVar("BlockT", bound=Hashable)


class CollectedChecks(Generic[BlockT]):
    """Checks of many blocks, whose results are read from the device at once: each read makes the host wait for it.

    Within `collecting`, `check_input` and `check_states` do not raise. Afterwards `suspects` names the blocks in which
    a value may not be finite: the caller computes each of them again, outside of `collecting`, to get the message.

    Parameters
    ----------
    device : torch.device
    at_once : bool, optional
        Check each block when it is computed, as on a CPU, which has nothing to wait for.
    """

    def __init__(self, device: torch.device, at_once: bool | None = None) -> None:
        self.at_once = device.type == "cpu" if at_once is None else at_once
        self._blocks: list[BlockT] = []
        self._sums: list[Tensor] = []

    @contextmanager
    def collecting(self, block: BlockT) -> Iterator[None]:
        """Collect the checks of a block within the context."""
        if self.at_once:
            yield
            return
        token = _collected.set([])
        try:
            yield
            sums = _collected.get()
        finally:
            _collected.reset(token)
        self._sums += sums or []
        self._blocks += [block] * len(sums or [])

    def suspects(self) -> list[BlockT]:
        """Return the blocks with a sum that is not finite, in their order, and forget all blocks."""
        if not self._sums:
            return []
        finite = torch.stack(self._sums).isfinite().tolist()
        found = dict.fromkeys(block for block, is_finite in zip(self._blocks, finite, strict=True) if not is_finite)
        self._blocks, self._sums = [], []
        return list(found)


# The sums of the block that is computed, while its checks are collected.
_collected: ContextVar[list[Tensor] | None] = ContextVar("_collected", default=None)


def checked_lengths(lengths: ArrayLike, sequences: int, steps: int) -> NDArray[np.int64]:
    """Return the lengths of sequences, on the host, after a check.

    Parameters
    ----------
    lengths : array of int, shape (sequences,)
        Array or tensor.
    sequences, steps : int
        Number of sequences, and steps of the longest one.

    Returns
    -------
    numpy.ndarray, shape (sequences,), int64

    Raises
    ------
    InputError
        If there is not one length per sequence, or a length is not between 1 and the number of steps.
    """
    checked = (lengths.cpu().numpy() if isinstance(lengths, Tensor) else np.asarray(lengths)).astype(np.int64)
    if checked.shape != (sequences,):
        raise InputError(f"lengths of shape {checked.shape}: expected one for each of {sequences} sequences")
    wrong = np.flatnonzero((checked < 1) | (checked > steps))
    if len(wrong):
        raise InputError(f"row {wrong[0]} has length {checked[wrong[0]]}: expected 1 to {steps}, the number of steps")
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
    """Return whether all values are finite. If their sum is, they are; a sum is several times as fast.

    Within `CollectedChecks.collecting` the sum is only noted, and the result True.
    """
    sums = _collected.get()
    if sums is not None:
        sums.append(values.sum(dtype=torch.float32))
        return True
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())

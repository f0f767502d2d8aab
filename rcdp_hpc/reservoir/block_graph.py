"""Blocks of one shape as a CUDA graph: one launch replaces those of all steps.

A GPU computes a step of a small block faster than the host launches its operations. The first blocks of a shape are
computed as usual; then one is recorded, and from then on replayed. Values are exchanged by fixed tensors, and the
memory of a recording stays allocated.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from rcdp_hpc.runtime.cuda_graphs import first_cause, recorded, stream_for
from rcdp_hpc.runtime.logs import warn_once

log = logging.getLogger(__name__)

# A recording waits for the GPU, gives back the memory that torch keeps, and takes its own. That is as long as the calls
# of several blocks, so that the few large blocks of a pass are not worth it.
REPEATS = 8
# Shape and dtypes of a block, and whether it has noise.
Shape = tuple[tuple[int, ...], torch.dtype, torch.dtype, bool]
Compute = Callable[[Tensor, Tensor], object]
# Records what a function does on a device and returns a function that does it again on the same tensors.
Recorder = Callable[[Callable[[], object]], Callable[[], object]]


class Recording(NamedTuple):
    """A recorded computation: `replay` writes the result of `u` into `out`."""

    shape: Shape
    u: Tensor
    out: Tensor
    replay: Callable[[], object]


class BlockGraph:
    """The computation of blocks, recorded for a shape that comes again and again.

    Parameters
    ----------
    record : Recorder or None
        None: nothing is recorded.
    repeats : int
        Blocks of a shape, in succession, before the one that is recorded.
    """

    def __init__(self, record: Recorder | None, repeats: int = REPEATS) -> None:
        self._record = record
        self._repeats = repeats
        self._last: Shape | None = None
        self._count = 0
        self._recording: Recording | None = None

    def run(self, compute: Compute, u: Tensor, out: Tensor, noisy: bool) -> None:
        """Compute a block.

        Parameters
        ----------
        compute : callable
            Writes the result of its first argument into the second one. Uses nothing else that changes from block to
            block, and reads nothing back from the device.
        u : torch.Tensor, shape (batch, steps, features)
        out : torch.Tensor, shape (batch, width)
        noisy : bool
            Whether `compute` adds noise.
        """
        shape = (tuple(u.shape), u.dtype, out.dtype, noisy)
        self._count = self._count + 1 if shape == self._last else 0
        self._last = shape
        if self._count >= self._repeats and (self._recording is None or self._recording.shape != shape):
            self._recording = self._recorded(shape, compute, u, out)
        if self._recording is None or self._recording.shape != shape:
            compute(u, out)
            return
        self._recording.u.copy_(u)
        self._recording.replay()
        out.copy_(self._recording.out)

    def release(self) -> None:
        """Free the memory of the recording; blocks are counted anew."""
        self._recording, self._last = None, None

    def _recorded(self, shape: Shape, compute: Compute, u: Tensor, out: Tensor) -> Recording | None:
        """Record the computation of blocks of a shape; None if that is not possible."""
        self._recording = None
        if self._record is None:
            return None
        try:
            fixed_u, fixed_out = u.clone(), torch.empty_like(out)
            return Recording(shape, fixed_u, fixed_out, self._record(lambda: compute(fixed_u, fixed_out)))
        except RuntimeError as error:  # torch's errors of captures and of memory
            self._record = None
            reason = next(iter(str(first_cause(error)).strip().splitlines()), type(error).__name__)
            warn_once(
                log,
                "block graph",
                f"blocks of reservoir states are not recorded as a CUDA graph ({reason}): their steps are launched one "
                "by one, which is slower for small blocks",
            )
            return None


def cuda_recorder(device: torch.device) -> Recorder | None:
    """Return the recorder of a GPU, None for other devices."""
    if device.type != "cuda":
        return None

    return partial(recorded, device=device, stream=stream_for("blocks", device))

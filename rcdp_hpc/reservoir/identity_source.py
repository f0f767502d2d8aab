"""No reservoir: the cut input handed on as it is, in the place of states. One switch turns the reservoir off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.inputs import read_inputs
from rcdp_hpc.reservoir.kept_steps import read_features
from rcdp_hpc.reservoir.reductions import KeptShape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import ROWS_UNLESS_SET, Reservoir


class IdentitySource:
    """What stands in for a `Reservoir` where there is none: s_t = u_t, and all steps are kept.

    u_t is what would drive the reservoir: with ``series_scaling`` and ``differences``, if set.

    Sequences of unequal length are put at the end, zeros before them: the last step is each one's own.

    Parameters
    ----------
    settings : ReservoirSection
        How samples are cut, and how many rows are taken at once.
    cut : Cut
        How raw samples become sequences.
    sample_shape : sequence of int
        Shape of one sample.
    device : str or torch.device
        Where the values are put.

    Attributes
    ----------
    kept, width, batch_rows, dtype, device
        As of `Reservoir`.
    """

    dtype = torch.float32
    kernel = "none"

    def __init__(
        self,
        settings: ReservoirSection,
        cut: Sequencer,
        sample_shape: Sequence[int],
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings, self.cut, self.device = settings, cut, torch.device(device)
        steps, features = cut.shape(sample_shape)
        self.kept = KeptShape(1, steps, read_features(settings, features), raw=True)
        self.width = self.kept.features
        self.batch_rows = settings.batch_rows or ROWS_UNLESS_SET

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return the sequences of raw samples, shape (batch, width); parameters and errors as `Reservoir.drive`."""
        steps = None if lengths is None else self.cut.lengths(lengths)
        return self.states(self.cut.sequences(x), out, steps)

    def states(
        self, u: Any, out: Tensor | None = None, lengths: ArrayLike | None = None, noisy: bool = False
    ) -> Tensor:
        """Return sequences (batch, steps, features) as rows (batch, width); parameters as `Reservoir.states`."""
        u = torch.as_tensor(u).to(self.device)
        if u.shape[1] > self.kept.steps:
            raise InputError(f"sequences of {u.shape[1]} steps: expected at most the {self.kept.steps} that are read")
        own = None if lengths is None else torch.from_numpy(np.asarray(lengths)).to(self.device)
        u = read_inputs(self.settings, u, own).to(self.dtype)
        if own is not None or u.shape[1] < self.kept.steps:
            own = torch.full((len(u),), u.shape[1], device=self.device) if own is None else own
            u = _to_the_end(u, own, self.kept.steps)
        flat = u.reshape(len(u), self.width)
        return flat if out is None else out.copy_(flat)


class StateSource(Protocol):
    """What gives the rows that are kept of samples: a reservoir, what stands in for it, or one behind an extractor.

    Attributes
    ----------
    settings : ReservoirSection
    cut : Cut
        How raw samples become the sequences that `states` reads.
    kept : KeptShape
    width, batch_rows : int
        Values of a row; rows computed at once.
    dtype, device, kernel
        Of the rows, of the computation, and its name.
    """

    settings: ReservoirSection
    cut: Sequencer
    kept: KeptShape
    width: int
    batch_rows: int
    dtype: torch.dtype
    device: torch.device
    kernel: str

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return what is kept of raw samples."""

    def states(self, u: Any, out: Tensor | None = None) -> Tensor:
        """Return what is kept of sequences."""


def make_reservoir(
    settings: ReservoirSection,
    sample_shape: Sequence[int],
    device: str | torch.device = "cpu",
    matrices: ReservoirMatrices | None = None,
) -> Reservoir | IdentitySource:
    """Return the reservoir for samples of this shape, or what stands in for it with ``reservoir.kind = "none"``.

    Raises
    ------
    InputError
        If the samples cannot be cut as the settings say, or as `Reservoir`.
    """
    cut = Sequencer.of(settings)
    if settings.kind == "none":
        return IdentitySource(settings, cut, sample_shape, device)
    steps, features = cut.shape(sample_shape)
    return Reservoir(settings, features, settings.kernel, device, matrices, steps)


def _to_the_end(u: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Return sequences (batch, any, features) as (batch, steps, features), each ending with its own last step."""
    source = torch.arange(steps, device=u.device) - (steps - lengths[:, None])
    taken = u.gather(1, source.clamp_min(0)[..., None].expand(-1, -1, u.shape[2]))
    return taken.masked_fill((source < 0)[..., None], 0)

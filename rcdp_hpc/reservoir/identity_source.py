"""The input sequence itself in place of reservoir states (``reservoir.kind = "none"``)."""

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
from rcdp_hpc.reservoir.inputs import prepare_inputs
from rcdp_hpc.reservoir.kept_steps import prepared_features
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import DEFAULT_BATCH_ROWS, Reservoir


class IdentitySource:
    """A replacement for `Reservoir` without a reservoir: s_t = u_t, for all steps.

    u_t is the input that would drive the reservoir, after ``series_scaling`` and ``differences``. Shorter sequences are
    right-aligned after zeros, so that each ends with its last step.

    Parameters
    ----------
    settings : ReservoirSection
    sequencer : Sequencer
        Cuts raw samples into sequences.
    sample_shape : sequence of int
        Shape of one sample.
    device : str or torch.device
        Device of the values.

    Attributes
    ----------
    feature_shape, width, batch_rows, dtype, device, kernel
        As of `Reservoir`.
    """

    dtype = torch.float32
    kernel = "none"

    def __init__(
        self,
        settings: ReservoirSection,
        sequencer: Sequencer,
        sample_shape: Sequence[int],
        device: str | torch.device = "cpu",
    ) -> None:
        self.settings = settings
        self.sequencer = sequencer
        self.device = torch.device(device)
        steps, features = sequencer.shape(sample_shape)
        self.feature_shape = FeatureShape(1, steps, prepared_features(settings, features), raw=True)
        self.width = self.feature_shape.features
        self.batch_rows = settings.batch_rows or DEFAULT_BATCH_ROWS

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return the sequences of raw samples, shape (batch, width); parameters and errors as `Reservoir.drive`."""
        steps = None if lengths is None else self.sequencer.lengths(lengths)
        return self.states(self.sequencer.sequences(x), out, steps)

    def states(
        self, u: Any, out: Tensor | None = None, lengths: ArrayLike | None = None, noisy: bool = False
    ) -> Tensor:
        """Return sequences (batch, steps, features) as rows (batch, width); parameters as `Reservoir.states`."""
        u = torch.as_tensor(u).to(self.device)
        if u.shape[1] > self.feature_shape.steps:
            raise InputError(f"sequences of {u.shape[1]} steps: expected at most {self.feature_shape.steps}")
        ends = None if lengths is None else torch.from_numpy(np.asarray(lengths)).to(self.device)
        u = prepare_inputs(self.settings, u, ends).to(self.dtype)
        if ends is not None or u.shape[1] < self.feature_shape.steps:
            ends = torch.full((len(u),), u.shape[1], device=self.device) if ends is None else ends
            u = _right_aligned(u, ends, self.feature_shape.steps)
        flat = u.reshape(len(u), self.width)
        return flat if out is None else out.copy_(flat)

    def release(self) -> None:
        """Do nothing: no memory is kept between blocks."""


class StateSource(Protocol):
    """A source of feature rows: a reservoir, its replacement `IdentitySource`, or a fixed extractor with either.

    Attributes
    ----------
    settings : ReservoirSection
    sequencer : Sequencer
        Cuts raw samples into the sequences that `states` reads.
    feature_shape : FeatureShape
    width : int
        Features of a row.
    batch_rows : int
        Rows that are computed at once.
    dtype : torch.dtype
        Number format of the rows.
    device : torch.device
    kernel : str
        Name of the kernel, "none" without one.
    """

    settings: ReservoirSection
    sequencer: Sequencer
    feature_shape: FeatureShape
    width: int
    batch_rows: int
    dtype: torch.dtype
    device: torch.device
    kernel: str

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return the features of raw samples, shape (batch, width)."""

    def states(self, u: Any, out: Tensor | None = None) -> Tensor:
        """Return the features of sequences, shape (batch, width)."""

    def release(self) -> None:
        """Free the memory that is kept for further blocks, after the last one."""


def make_reservoir(
    settings: ReservoirSection,
    sample_shape: Sequence[int],
    device: str | torch.device = "cpu",
    matrices: ReservoirMatrices | None = None,
) -> Reservoir | IdentitySource:
    """Return the reservoir for samples of this shape, or its replacement for ``reservoir.kind = "none"``.

    Parameters
    ----------
    settings : ReservoirSection
    sample_shape : sequence of int
        Shape of one sample.
    device : str or torch.device
    matrices : ReservoirMatrices, optional
        As of `Reservoir`.

    Raises
    ------
    InputError
        If the samples cannot be cut as the settings say; other cases as `Reservoir`.
    """
    sequencer = Sequencer.of(settings)
    if settings.kind == "none":
        return IdentitySource(settings, sequencer, sample_shape, device)
    steps, features = sequencer.shape(sample_shape)
    return Reservoir(settings, features, settings.kernel, device, matrices, steps)


def _right_aligned(u: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Return sequences (batch, any, features) as (batch, steps, features), each at the end after zeros."""
    source = torch.arange(steps, device=u.device) - (steps - lengths[:, None])
    aligned = u.gather(1, source.clamp_min(0)[..., None].expand(-1, -1, u.shape[2]))
    return aligned.masked_fill((source < 0)[..., None], 0)

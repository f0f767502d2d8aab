"""A reservoir that reads the sequences of a fixed extractor."""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.identity_source import IdentitySource, StateSource
from rcdp_hpc.reservoir.kept_steps import check_length
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir


class MapModule(Protocol):
    """A fixed extractor.

    Attributes
    ----------
    steps, features : int
        Shape of a sequence.
    """

    steps: int
    features: int

    def __call__(self, samples: Tensor) -> Tensor:
        """Return the sequences (rows, steps, features) of samples (rows, *sample_shape)."""

    def to(self, device: torch.device) -> Self:
        """Move the module to a device."""


class MapSource(StateSource):
    """A reservoir that reads the sequences of a fixed extractor; without a reservoir, the sequences themselves.

    The extractor does not change during the training, so that states are computed once and cached.

    Parameters
    ----------
    settings : ReservoirSection
        ``kernel = "auto"`` becomes dense-fp32, because the calibration knows only sequences that are cut from samples.
    extractor : MapModule
    device : torch.device
    bands : int
        Frequency bands of the extractor's features (`rcdp_hpc.reservoir.reductions.FeatureShape`). States of a
        reservoir mix bands, so they count as one.

    Attributes
    ----------
    feature_shape, width, batch_rows, dtype, device, kernel, sequencer
        As of `rcdp_hpc.reservoir.identity_source.StateSource`.
    """

    def __init__(self, settings: ReservoirSection, extractor: MapModule, device: torch.device, bands: int = 1) -> None:
        self.settings = settings
        self.device = device
        self.sequencer = Sequencer()
        self.extractor = extractor.to(device)
        steps, features = extractor.steps, extractor.features
        self.inner: Reservoir | IdentitySource
        if settings.kind == "none":
            self.inner = IdentitySource(settings, Sequencer(), (steps, features), device)
        else:
            check_length(settings, steps)
            kernel = "dense-fp32" if settings.kernel == "auto" else settings.kernel
            self.inner = Reservoir(settings, features, kernel, device, steps=steps)
        self.feature_shape = self.inner.feature_shape
        if settings.kind == "none":
            self.feature_shape = self.feature_shape._replace(bands=bands)
        self.width = self.inner.width
        self.batch_rows = self.inner.batch_rows
        self.dtype = self.inner.dtype
        self.kernel = self.inner.kernel

    def drive(self, x: Any, lengths: ArrayLike | None = None, out: Tensor | None = None, noisy: bool = False) -> Tensor:
        """Return the features of raw samples (rows, *sample_shape); parameters as `Reservoir.drive`."""
        samples = torch.as_tensor(x).to(self.device, torch.float32)
        return self.inner.states(self.extractor(samples), out, noisy=noisy)

    def states(self, u: Any, out: Tensor | None = None) -> Tensor:
        """Return the features of samples that are cut by rows, (rows, height, width · channels)."""
        return self.drive(u, out=out)

    def release(self) -> None:
        """Free the memory that is kept for further blocks."""
        self.inner.release()

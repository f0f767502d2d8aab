"""Fixed maps of samples to shorter ones, before the reservoir: components, projections, some of the features."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcdp_hpc.config import ExtractorSection, ReservoirSection
from rcdp_hpc.errors import DataDamagedError
from rcdp_hpc.reservoir.random_streams import distributed, stream, symmetric
from rcdp_hpc.reservoir.sequencing import Sequencer


class InputMap(nn.Module):
    """A map of the features u of every step, or of all values of a sample as one step.

    Parameters
    ----------
    settings : ExtractorSection
        The keys ``components`` and ``over`` are used.
    reservoir : ReservoirSection
        Cuts samples into sequences.
    sample_shape : sequence of int
        Shape of one sample.

    Attributes
    ----------
    inputs : int
        Features of a step before the map.
    steps, features : int
        Shape of a sequence after the map.
    """

    def __init__(self, settings: ExtractorSection, reservoir: ReservoirSection, sample_shape: Sequence[int]) -> None:
        super().__init__()
        self.sequencer = None if settings.over == "sample" else Sequencer.of(reservoir)
        self.sample_shape = tuple(sample_shape)
        self.steps, self.inputs = 1, math.prod(self.sample_shape)
        if self.sequencer is not None:
            self.steps, self.inputs = self.sequencer.shape(self.sample_shape)
        self.features = settings.components

    def cut(self, samples: Tensor) -> Tensor:
        """Return the steps (rows, steps, inputs) of samples (rows, *sample_shape)."""
        if self.sequencer is None:
            return samples.flatten(1)[:, None]
        return self.sequencer.sequences(samples.reshape(len(samples), *self.sample_shape))

    @torch.no_grad()
    def forward(self, samples: Tensor) -> Tensor:
        """Return the sequences (rows, steps, features) of samples (rows, *sample_shape)."""
        return self.reduced(self.cut(samples))

    @abstractmethod
    def reduced(self, steps: Tensor) -> Tensor:
        """Return steps (rows, steps, inputs) after the map, (rows, steps, features)."""


class LinearMap(InputMap):
    """``y = M (u - m)``, with components M and means m that are learned; parameters as `InputMap`."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, settings: ExtractorSection, reservoir: ReservoirSection, sample_shape: Sequence[int]) -> None:
        super().__init__(settings, reservoir, sample_shape)
        self.register_buffer("mean", torch.zeros(self.inputs))
        self.register_buffer("matrix", torch.zeros(self.features, self.inputs))

    def reduced(self, steps: Tensor) -> Tensor:
        """Return the components of steps."""
        return (steps - self.mean) @ self.matrix.T


class FeatureSelection(InputMap):
    """Some of the features of a step, in their order; parameters as `InputMap`."""

    chosen: Tensor

    def __init__(self, settings: ExtractorSection, reservoir: ReservoirSection, sample_shape: Sequence[int]) -> None:
        super().__init__(settings, reservoir, sample_shape)
        self.register_buffer("chosen", torch.arange(self.features))

    def load_state_dict(self, state_dict: Mapping[str, Any], *arguments: Any, **keywords: Any) -> Any:
        """Load the selection; raise a `DataDamagedError` if it has a feature that steps do not have."""
        result = super().load_state_dict(state_dict, *arguments, **keywords)
        if not bool(((self.chosen >= 0) & (self.chosen < self.inputs)).all()):
            raise DataDamagedError(f"the selection of features is damaged: a step has {self.inputs} features only")
        return result

    def reduced(self, steps: Tensor) -> Tensor:
        """Return the selected features of steps."""
        return steps.index_select(2, self.chosen)


class RandomProjection(InputMap):
    """``y = R u`` with a random matrix R whose rows have the mean squared length inputs / features.

    Then distances between samples are kept in the mean. With ``projection = "gaussian"`` the entries are normal with
    the variance 1 / k for k features (Johnson and Lindenstrauss 1984); with ``"sparse"`` they are +sqrt(3 / k),
    -sqrt(3 / k) and 0 with the probabilities 1/6, 1/6 and 2/3 (Achlioptas, "Database-friendly random projections",
    2003). Parameters as `InputMap`, of which ``reservoir.seed`` determines R.
    """

    def __init__(self, settings: ExtractorSection, reservoir: ReservoirSection, sample_shape: Sequence[int]) -> None:
        super().__init__(settings, reservoir, sample_shape)
        matrix = projection_matrix(settings.projection, self.features, self.inputs, reservoir.seed)
        self.register_buffer("matrix", torch.from_numpy(matrix.astype(np.float32)), persistent=False)

    matrix: Tensor

    def reduced(self, steps: Tensor) -> Tensor:
        """Return the projections of steps."""
        return steps @ self.matrix.T


def projection_matrix(projection: str, features: int, inputs: int, seed: int) -> NDArray[np.float64]:
    """Return the matrix R of `RandomProjection`, shape (features, inputs), float64."""
    uniform = symmetric(stream("projection", seed), features * inputs).reshape(features, inputs)
    if projection == "gaussian":
        return distributed(uniform, "normal") / math.sqrt(features)
    signs = np.where(uniform < -2 / 3, -1.0, np.where(uniform >= 2 / 3, 1.0, 0.0))
    return np.asarray(math.sqrt(3 / features) * signs)

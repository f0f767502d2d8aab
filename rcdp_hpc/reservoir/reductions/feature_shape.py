"""The shape of the features that the reductions make of a sample."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.reservoir.reductions.joined import reduction_class
from rcdp_hpc.reservoir.scans import scans_of


class FeatureShape(NamedTuple):
    """The order of a sample's features in its row: by part, then step, then neuron.

    Attributes
    ----------
    parts : int
        Reservoirs next to each other and stacked: scans times directions times layers.
    steps : int
        Values of each neuron, earliest first.
    width : int
        Neurons; without a reservoir the features of a step.
    raw : bool
        Whether these are inputs that no reservoir has read.
    bands : int
        Frequency bands of equal size that follow each other in the row, from low to high: features
        ``b * band_features`` to ``(b + 1) * band_features - 1`` are those of band b. 1 if the features are not
        divided into bands, as after a reservoir.
    """

    parts: int
    steps: int
    width: int
    raw: bool = False
    bands: int = 1

    @property
    def features(self) -> int:
        """Length of the row."""
        return self.parts * self.steps * self.width

    @property
    def band_features(self) -> int:
        """Features of one band."""
        return self.features // self.bands

    def by_step(self, rows: Tensor) -> Tensor:
        """Return rows of features, shape (rows, features), as sequences, shape (rows, steps, parts * width)."""
        separate = rows.view(len(rows), self.parts, self.steps, self.width)
        return separate.transpose(1, 2).reshape(len(rows), self.steps, self.parts * self.width)


def values_per_neuron(settings: ReservoirSection, steps: int | None = None) -> int:
    """Return the number of values of each neuron; `steps` are those of the longest sequence.

    Raises
    ------
    InputError
        If all states are kept and `steps` is None.
    """
    return sum(reduction_class(name).values(settings, steps) for name in settings.reduction)


def feature_shape(settings: ReservoirSection, steps: int | None = None) -> FeatureShape:
    """Return the shape of a sample's features; `steps` and errors as `values_per_neuron`."""
    parts = len(scans_of(settings)) * (2 if settings.bidirectional else 1) * settings.layers
    return FeatureShape(parts, values_per_neuron(settings, steps), settings.nodes)

"""A reservoir that reads the sequences of a frozen extractor."""

from __future__ import annotations

import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.networks.frozen import FrozenExtractor
from rcdp_hpc.networks.learned_source import FixedSource
from rcdp_hpc.networks.map_source import MapSource


class FrozenSource(MapSource, FixedSource):
    """A reservoir that reads the sequences of a `FrozenExtractor`; without a reservoir, the sequences themselves.

    Parameters
    ----------
    settings : ReservoirSection
        ``kernel = "auto"`` becomes dense-fp32, because the calibration knows only sequences that are cut from samples.
    extractor : FrozenExtractor
    device : torch.device

    Attributes
    ----------
    learned : FrozenExtractor
    feature_shape, width, batch_rows, dtype, device, kernel, sequencer
        As of `rcdp_hpc.reservoir.identity_source.StateSource`.
    """

    learned: FrozenExtractor
    learned_name = "extractor"

    def __init__(self, settings: ReservoirSection, extractor: FrozenExtractor, device: torch.device) -> None:
        self.learned = extractor
        super().__init__(settings, extractor, device)

"""Random projections of the samples, which drive the reservoir."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.input_map import InputMapExtractor
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.map_source import MapSource


class RandomProjectionExtractor(InputMapExtractor):
    """Random projections. The matrix follows from ``reservoir.seed``: nothing is learned, and nothing is stored."""

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> MapSource:
        """Return projection and reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.input_maps import RandomProjection
        from rcdp_hpc.networks.map_source import MapSource

        self.sequence_shape()
        return MapSource(self.reservoir, RandomProjection(self.settings, self.reservoir, self.sample_shape), device)

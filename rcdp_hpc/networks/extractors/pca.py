"""Principal components of the training samples, which drive the reservoir."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.input_map import InputMapExtractor
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.input_map_source import PcaSource
    from rcdp_hpc.networks.input_maps import LinearMap


class PcaExtractor(InputMapExtractor):
    """Principal components, learned from training samples without labels and then fixed."""

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> PcaSource:
        """Return components and reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.input_map_source import PcaSource

        return PcaSource(self.reservoir, self.settings, self.learned_part(), device)

    def learned_part(self) -> LinearMap:
        """Return the components, their values zeros."""
        from rcdp_hpc.networks.input_maps import LinearMap

        self.sequence_shape()
        return LinearMap(self.settings, self.reservoir, self.sample_shape)

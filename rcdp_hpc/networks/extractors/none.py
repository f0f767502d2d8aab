"""No extractor: the reservoir reads the samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.base import CutExtractor
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.reservoir.identity_source import StateSource


class NoExtractor(CutExtractor):
    """No extractor: the reservoir reads the samples as ``reservoir.sequence`` cuts them."""

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> StateSource:
        """Return the reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.reservoir.identity_source import make_reservoir

        return make_reservoir(self.reservoir, self.sample_shape, device, matrices)

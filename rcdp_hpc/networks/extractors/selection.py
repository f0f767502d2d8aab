"""Some of the features of the samples, which drive the reservoir."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.input_map import InputMapExtractor
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.input_map_source import SelectionSource
    from rcdp_hpc.networks.input_maps import FeatureSelection


class SelectionExtractor(InputMapExtractor):
    """The features with which a ridge regression of training samples is best, selected before the training."""

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> SelectionSource:
        """Return selection and reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.input_map_source import SelectionSource

        return SelectionSource(self.reservoir, self.settings, self.learned_part(), device)

    def learned_part(self) -> FeatureSelection:
        """Return the selection, of the first features until it is learned."""
        from rcdp_hpc.networks.input_maps import FeatureSelection

        self.sequence_shape()
        return FeatureSelection(self.settings, self.reservoir, self.sample_shape)

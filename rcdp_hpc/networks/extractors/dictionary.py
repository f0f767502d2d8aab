"""A dictionary of image patches, whose codes drive the reservoir."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.base import MapExtractor
from rcdp_hpc.networks.shapes import FARTHEST_CODE, dictionary_map, sequence_of_map
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.dictionary import PatchDictionary
    from rcdp_hpc.networks.dictionary_source import DictionarySource


class DictionaryExtractor(MapExtractor):
    """A dictionary of image patches, learned from training images without labels and then fixed."""

    bound = FARTHEST_CODE

    def sequence_shape(self) -> tuple[int, int]:
        """Return the steps and features of the map of codes, read as a sequence."""
        dictionary_map(self.settings, self.sample_shape)
        pool = self.settings.pool
        return sequence_of_map(self.settings.sequence, 2 * self.settings.atoms, pool, pool)

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> DictionarySource:
        """Return dictionary and reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.dictionary_source import DictionarySource

        return DictionarySource(self.reservoir, self.settings, self.sample_shape, device)

    def learned_part(self) -> PatchDictionary:
        """Return the dictionary, its values zeros."""
        from rcdp_hpc.networks.dictionary import PatchDictionary

        return PatchDictionary(self.settings, self.sample_shape)

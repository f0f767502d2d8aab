"""Wavelet packets of images or series, which drive the reservoir."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rcdp_hpc.config import Config
from rcdp_hpc.networks.extractors.base import MapExtractor
from rcdp_hpc.networks.wavelets import PacketShape
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.map_source import MapSource

log = logging.getLogger(__name__)


class WaveletPacketExtractor(MapExtractor):
    """The wavelet packets of each line of a sample. A step of the sequence is a frequency band; nothing is learned."""

    def __init__(self, config: Config, sample_shape: Sequence[int]) -> None:
        super().__init__(config, sample_shape)
        self.bands = 2**self.settings.levels

    def sequence_shape(self) -> tuple[int, int]:
        """Return the bands, and the features of a sample in a band."""
        shape = PacketShape.of(self.settings, self.sample_shape)
        return shape.bands, shape.band_features

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> MapSource:
        """Return wavelet packets and reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.map_source import MapSource
        from rcdp_hpc.networks.wavelet_packets import WaveletPackets

        packets = WaveletPackets(self.settings, self.sample_shape)
        self._report(packets.shape)
        return MapSource(self.reservoir, packets, device, self.bands)

    def _report(self, shape: PacketShape) -> None:
        """Log what is transformed, and the values that are added."""
        log.info(
            "wavelet packets (%s, %d levels): %d lines of %d values per sample, %d bands of %d features",
            *(self.settings.wavelet, self.settings.levels, shape.lines * shape.inner, shape.length),
            *(shape.bands, shape.band_features),
        )
        if shape.added:
            log.info(
                "lines of %d values are extended to %d, a multiple of %d, by repeating their last value: "
                "%d values become %d features per sample",
                *(shape.length, shape.extended, shape.bands),
                *(shape.lines * shape.inner * shape.length, shape.bands * shape.band_features),
            )

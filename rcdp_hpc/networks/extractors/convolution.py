"""Convolutions of images, trained with the readout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.networks.extractors.trained import TrainedExtractor
from rcdp_hpc.networks.shapes import convolution_map, sequence_of_map

if TYPE_CHECKING:
    from rcdp_hpc.networks.convolutions import Convolutions
    from rcdp_hpc.parallel.base import Strategy


class ConvolutionExtractor(TrainedExtractor):
    """Convolutions of images, trained with the readout."""

    def sequence_shape(self) -> tuple[int, int]:
        """Return the steps and features of the last feature map, read as a sequence."""
        settings = self.settings
        height, width = convolution_map(self.sample_shape, settings.channels, settings.whitening)
        return sequence_of_map(settings.sequence, settings.channels[-1], height, width)

    def trained_part(self, parallel: Strategy | None = None) -> Convolutions:
        """Return the convolutions, with random weights; parameters as `TrainedExtractor.trained_part`."""
        from rcdp_hpc.networks.convolutions import Convolutions

        settings = self.settings
        return Convolutions(
            self.sample_shape, settings.channels, settings.residual, settings.sequence, parallel, settings.activation,
            settings.whitening,
        )  # fmt: skip

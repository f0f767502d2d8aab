"""The base class of extractors that reduce the features of a sample before the reservoir."""

from __future__ import annotations

import math

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors.base import MapExtractor
from rcdp_hpc.reservoir.sequencing import Sequencer


class InputMapExtractor(MapExtractor):
    """A map of the features of each step, as ``reservoir.sequence`` cuts them, or of all values of a sample.

    With ``extractor.over = "steps"`` the sequence keeps its steps, and all steps have the same map; with ``"sample"`` a
    sample becomes one step.
    """

    def input_shape(self) -> tuple[int, int]:
        """Return the steps of the sequence, and the features of a step that are reduced."""
        steps, features = Sequencer.of(self.reservoir).shape(self.sample_shape)
        return (1, math.prod(self.sample_shape)) if self.settings.over == "sample" else (steps, features)

    def sequence_shape(self) -> tuple[int, int]:
        """Return the steps and features of the reduced sequence.

        Raises
        ------
        InputError
            If more features are to be left than there are.
        """
        steps, features = self.input_shape()
        components = self.settings.components
        if components > features:
            what = "values of a sample" if self.settings.over == "sample" else "features of a step"
            raise InputError(
                f"extractor.components = {components} is more than the {features} {what} of the shape "
                f"{self.sample_shape}: set it to at most {features}, or another extractor.kind"
            )
        return steps, components

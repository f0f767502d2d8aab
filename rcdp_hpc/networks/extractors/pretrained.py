"""The trained extractor of another model, frozen: its sequences drive the reservoir or the readout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.config.choices import UNREAD_MODEL
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors.base import Extractor, MapExtractor
from rcdp_hpc.reservoir.connection import ReservoirMatrices

if TYPE_CHECKING:
    import torch

    from rcdp_hpc.networks.frozen import FrozenExtractor
    from rcdp_hpc.networks.frozen_source import FrozenSource


class PretrainedExtractor(MapExtractor):
    """The trained extractor in the model file ``extractor.model``, whose weights do not change.

    The pipeline reads the file before the stages that need it, and sets ``extractor.model_kind`` and the keys of that
    kind to the settings in it (`rcdp_hpc.pipeline.run_extractor`).
    """

    def sequence_shape(self) -> tuple[int, int] | None:
        """Return the steps and features of the sequences; None if the model has not been read, or without torch.

        Raises
        ------
        InputError
            If the samples have another shape than those that the model was trained on.
        """
        if self.settings.model_kind == UNREAD_MODEL:
            return None
        if self.sample_shape != tuple(self.settings.model_shape):
            raise InputError(
                f"extractor.model = {self.settings.model}: trained on samples of the shape "
                f"{tuple(self.settings.model_shape)}, and these have {self.sample_shape}: name a model of such samples"
            )
        return self._trained().sequence_shape()

    def source(self, device: torch.device, matrices: ReservoirMatrices | None = None) -> FrozenSource:
        """Return extractor and reservoir; parameters as `Extractor.source`."""
        from rcdp_hpc.networks.frozen_source import FrozenSource

        return FrozenSource(self.reservoir, self.learned_part(), device)

    def learned_part(self) -> FrozenExtractor:
        """Return the extractor with its normalisation, its weights to be loaded."""
        from rcdp_hpc.networks.frozen import FrozenExtractor

        self.sequence_shape()
        module = self._trained().trained_part()
        if module is None:  # the pipeline accepts models with a trained extractor only
            raise AssertionError(f"extractor.model_kind = {self.settings.model_kind!r} is not trained")
        return FrozenExtractor(module, self.sample_shape)

    def _trained(self) -> Extractor:
        """Return the extractor of the model."""
        from rcdp_hpc.networks.extractors.load import extractor_of

        if self.settings.model_kind == UNREAD_MODEL:
            raise InputError(f"extractor.model = {self.settings.model}: the model has not been read")
        settings = self.settings.model_copy(update={"kind": self.settings.model_kind})
        return extractor_of(self.config.model_copy(update={"extractor": settings}), self.sample_shape)

"""Adapter for a trained extractor class of the user's own (docs/extending.md)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from rcdp_hpc.config.choices import EXTRACTORS
from rcdp_hpc.networks.extractors.trained import TrainedExtractor
from rcdp_hpc.runtime.user_code import load_choice

if TYPE_CHECKING:
    from rcdp_hpc.networks.user_sequences import UserSequences
    from rcdp_hpc.parallel.base import Strategy


class UserExtractor(TrainedExtractor):
    """A torch module of the user, trained with the readout. It is imported when its shape or its weights are needed."""

    def sequence_shape(self) -> tuple[int, int] | None:
        """Return the steps and features of the sequences, from a dry run of the module; None if torch is missing.

        Raises
        ------
        InputError
            If the class cannot be imported, or breaks its contract.
        """
        if find_spec("torch") is None:  # the preparation runs without torch
            return None
        import torch

        with torch.random.fork_rng(devices=[]):
            module = self.trained_part()
        return module.steps, module.features

    def trained_part(self, parallel: Strategy | None = None) -> UserSequences:
        """Return the module, after a dry run; parameters as `TrainedExtractor.trained_part`.

        Raises
        ------
        InputError
            If the class cannot be imported, or breaks its contract.
        """
        from rcdp_hpc.networks.user_sequences import UserSequences

        name = self.settings.kind
        return UserSequences(load_choice(EXTRACTORS, name), name, self.sample_shape, parallel)

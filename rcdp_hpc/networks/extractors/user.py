"""Adapter for a trained extractor class of the user's own (docs/extending.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rcdp_hpc.config.choices import EXTRACTORS
from rcdp_hpc.networks.extractors.trained import TrainedExtractor
from rcdp_hpc.runtime.user_code import load_choice

if TYPE_CHECKING:
    from rcdp_hpc.networks.user_sequences import UserSequences
    from rcdp_hpc.parallel.single import SingleProcessEngine


class UserExtractor(TrainedExtractor):
    """A torch module of the user, trained with the readout. The module is imported when it is built."""

    def trained_part(self, parallel: SingleProcessEngine | None = None) -> UserSequences:
        """Return the module, after a dry run; parameters as `TrainedExtractor.trained_part`.

        Raises
        ------
        InputError
            If the class cannot be imported, or breaks its contract.
        """
        from rcdp_hpc.networks.user_sequences import UserSequences

        name = self.settings.kind
        return UserSequences(load_choice(EXTRACTORS, name), name, self.sample_shape, parallel)

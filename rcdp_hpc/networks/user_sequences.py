"""The trained module of an extractor class of the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from rcdp_hpc.config.choices import EXTRACTORS
from rcdp_hpc.networks.base import SequenceModule
from rcdp_hpc.networks.user_modules import TRIAL_ROWS, dry_run, instantiate, use_synced_norm, wrong_shape
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process

KEY = EXTRACTORS.key


class UserSequences(SequenceModule):
    """A torch module of the user as trained extractor, T = E(x) (eq. 8).

    The class E is called with one argument, the shape of a sample. Its ``forward`` takes normalised samples
    (rows, *sample_shape) and returns sequences (rows, steps, features); there may be 0 rows. Batch normalisations
    become `SyncBatchNorm`.

    Parameters
    ----------
    module_class : type
        E.
    name : str
        ``module:Class``, for messages.
    sample_shape : sequence of int
        Shape of one sample.
    parallel : Strategy, optional
        Sums batch statistics over ranks; default: one process.

    Raises
    ------
    InputError
        If the class breaks the contract.
    """

    def __init__(
        self, module_class: Any, name: str, sample_shape: Sequence[int], parallel: Strategy | None = None
    ) -> None:
        super().__init__()
        self.inner = instantiate(KEY, name, module_class, (tuple(sample_shape),))
        self.name = name
        sequences = dry_run(KEY, name, self.inner, sample_shape)
        if sequences.ndim != 3 or len(sequences) != TRIAL_ROWS or not sequences.numel():
            raise wrong_shape(KEY, name, sequences, f"({TRIAL_ROWS}, steps, features)")
        use_synced_norm(self.inner, parallel or single_process())
        self.steps, self.features = sequences.shape[1:]

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return sequences (rows, steps, features) of samples (rows, *sample_shape)."""
        sequences: torch.Tensor = self.inner(samples)
        expected = (len(samples), self.steps, self.features)
        if sequences.shape != expected:
            raise wrong_shape(KEY, self.name, sequences, f"{expected} for a batch of {len(samples)} rows")
        return sequences

"""Extractors and readouts of the user's own, named as module:Class, and the contract they are held to.

=========  ==================================  =================================  =========================
part       made as                             given                              returns
=========  ==================================  =================================  =========================
extractor  ``Class(sample_shape)``             (rows, *sample_shape), normalised  (rows, steps, features)
readout    ``Class(steps, features, classes)``  (rows, steps, features)            (rows, classes), the scores
=========  ==================================  =================================  =========================

Both are torch modules; rows may be 0. Batch normalisation is replaced by the package's, whose statistics are those of
all ranks. Modules that draw random numbers (dropout) are refused: what torch draws depends on rank and batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from rcdp_hpc.networks.base import Readout
from rcdp_hpc.networks.contract import TRIAL_ROWS, dry_run, instantiate, use_synced_norm, wrong_shape
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.parallel.single import SingleProcessEngine
from rcdp_hpc.reservoir.reductions import FeatureShape

READOUT_KEY, EXTRACTOR_KEY = "readout.kind", "extractor.kind"


class UserReadout(Readout):
    """A readout of the user's own over standardised states, ``scores = R(s_1 .. s_T)``.

    Parameters
    ----------
    name : str
        module:Class.
    kept : FeatureShape
        How the states of a sample lie in its row; R is given (rows, steps, parts · width).
    classes : int
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.

    Raises
    ------
    InputError
        If the class breaks the contract.
    """

    def __init__(
        self, name: str, kept: FeatureShape, classes: int, parallel: SingleProcessEngine | None = None
    ) -> None:
        super().__init__(kept, dropout=0.0)
        features = kept.parts * kept.width
        self.name, self.classes = name, classes
        self.inner = instantiate(READOUT_KEY, name, (kept.steps, features, classes))
        found = dry_run(READOUT_KEY, name, self.inner, (kept.steps, features))
        if found.shape != (TRIAL_ROWS, classes):
            raise wrong_shape(READOUT_KEY, name, found, f"({TRIAL_ROWS}, {classes}), scores of each class")
        use_synced_norm(self.inner, parallel or SingleProcessEngine())

    def read(self, standard: torch.Tensor, draw: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised states (rows, features)."""
        scores: torch.Tensor = self.inner(self.feature_shape.by_step(standard))
        # The trial before the training does not see its batches.
        if scores.shape != (len(standard), self.classes):
            raise wrong_shape(READOUT_KEY, self.name, scores, f"({len(standard)}, {self.classes}) for so many rows")
        return scores


class UserExtractor(nn.Module):
    """A trained extractor of the user's own, T = E(x) (eq. 8).

    Parameters
    ----------
    name : str
        module:Class.
    sample_shape : sequence of int
    parallel : Alone, optional
        How batch statistics are summed over ranks; default: one process.

    Attributes
    ----------
    steps, features : int
        Of the sequences it returns.

    Raises
    ------
    InputError
        If the class breaks the contract.
    """

    def __init__(self, name: str, sample_shape: Sequence[int], parallel: SingleProcessEngine | None = None) -> None:
        super().__init__()
        self.inner = instantiate(EXTRACTOR_KEY, name, (tuple(sample_shape),))
        self.name = name
        found = dry_run(EXTRACTOR_KEY, name, self.inner, sample_shape)
        if found.ndim != 3 or len(found) != TRIAL_ROWS or not found.numel():
            raise wrong_shape(EXTRACTOR_KEY, name, found, f"({TRIAL_ROWS}, steps, features)")
        use_synced_norm(self.inner, parallel or SingleProcessEngine())
        self.steps, self.features = found.shape[1:]

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """Return sequences (rows, steps, features) of samples (rows, *sample_shape)."""
        sequences: torch.Tensor = self.inner(samples)
        expected = (len(samples), self.steps, self.features)
        if sequences.shape != expected:
            raise wrong_shape(EXTRACTOR_KEY, self.name, sequences, f"{expected} for so many rows")
        return sequences

"""Adapter for a readout class of the user's own (docs/extending.md)."""

from __future__ import annotations

from typing import Any

import torch

from rcdp_hpc.config import ReadoutSection
from rcdp_hpc.config.choices import READOUTS
from rcdp_hpc.networks.readouts.base import Readout
from rcdp_hpc.networks.sample_rng import SampleRng
from rcdp_hpc.networks.user_modules import TRIAL_ROWS, dry_run, instantiate, use_synced_norm, wrong_shape
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.parallel.single import single_process
from rcdp_hpc.reservoir.reductions import FeatureShape

KEY = READOUTS.key


class UserReadout(Readout):
    """A torch module of the user as readout of standardised features, ``scores = R(s_1 .. s_T)``.

    The class R is called with the arguments (steps, features, classes). Its ``forward`` takes a tensor of the shape
    (rows, steps, features), where features is parts · width of `shape`, and returns scores of the shape (rows,
    classes); there may be 0 rows. Batch normalisations become `SyncBatchNorm`. ``readout.dropout`` has no effect.

    Parameters
    ----------
    module_class : type
        R.
    name : str
        ``module:Class``, for messages.
    settings, shape, classes, parallel
        As of `Readout`.

    Raises
    ------
    InputError
        If the class breaks the contract.
    """

    def __init__(
        self,
        module_class: Any,
        name: str,
        settings: ReadoutSection,
        shape: FeatureShape,
        classes: int,
        parallel: Strategy | None = None,
    ) -> None:
        super().__init__(settings, shape, classes, parallel)
        features = shape.parts * shape.width
        self.name = name
        self.inner = instantiate(KEY, name, module_class, (shape.steps, features, classes))
        scores = dry_run(KEY, name, self.inner, (shape.steps, features))
        if scores.shape != (TRIAL_ROWS, classes):
            raise wrong_shape(KEY, name, scores, f"({TRIAL_ROWS}, {classes}), scores of each class")
        use_synced_norm(self.inner, parallel or single_process())

    def read(self, standard: torch.Tensor, rng: SampleRng | None) -> torch.Tensor:
        """Return class scores (rows, classes) of standardised features (rows, features)."""
        scores: torch.Tensor = self.inner(self.feature_shape.by_step(standard))
        # The dry run cannot show what the module does with other numbers of rows.
        if scores.shape != (len(standard), self.classes):
            raise wrong_shape(
                KEY, self.name, scores, f"({len(standard)}, {self.classes}) for a batch of {len(standard)} rows"
            )
        return scores

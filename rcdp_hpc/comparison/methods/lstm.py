"""What the LSTM methods without a reservoir have in common.

S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997) 1735-1780, with the forget gate of
F. A. Gers, J. Schmidhuber, F. Cummins, "Learning to forget", Neural Computation 12 (2000) 2451-2471.
"""

from __future__ import annotations

from typing import Any

from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.comparison.methods.settings import (
    DEPTH,
    NO_DENSITY_TERM,
    TRAINING,
    WIDTH,
    completed,
    input_only,
    refuse_one_step,
    searched_by,
    with_own,
    without_joined_features,
)
from rcdp_hpc.config import Config, DataFacts

SPACE: dict[str, Any] = {"hidden": WIDTH, **TRAINING, "readout_layers": DEPTH}


class SearchedLSTM(PipelineMethod):
    """An LSTM on the input sequence, whose width, depth, learning rate and dropout are searched.

    Attributes
    ----------
    optimizer : str
        The value of ``search.optimizer``, set by each subclass.
    """

    optimizer: str

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: no reservoir, an LSTM readout, and a search of it."""
        parts = {"readout.kind": "lstm", "reservoir.kind": "none", **without_joined_features(config)}
        base = completed(config, facts, parts)
        return with_own(base, {**input_only(base), **searched_by(self.optimizer, SPACE), **NO_DENSITY_TERM})

    def check(self, config: Config, facts: DataFacts) -> None:
        """Raise an `InputError` if samples have a single step, or do not fit the settings."""
        refuse_one_step(config, facts)
        super().check(config, facts)

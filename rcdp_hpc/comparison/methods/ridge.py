"""A floor: ridge regression on the input, solved over all ranks.

A. E. Hoerl, R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12 (1970)
55-67.
"""

from __future__ import annotations

from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.comparison.methods.settings import BY_VALIDATION, completed, with_own, without_joined_features
from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.config.optimizer import LossSection


class RawRidge(PipelineMethod):
    """One-hot classes regressed on the values of a sample; the validation rows choose the penalty."""

    searches = False

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: the values of a sample, a ridge readout, no search."""
        parts = {
            "readout.kind": "ridge",
            "reservoir.kind": "none",
            "loss.kind": "cross_entropy",
            "loss.focal_gamma": LossSection().focal_gamma,
            **without_joined_features(config),
        }
        base = completed(config, facts, parts)
        values = {"kind": "none", "batch_rows": base.reservoir.batch_rows}
        return with_own(base, {"reservoir": values, "augment": {}, **BY_VALIDATION})

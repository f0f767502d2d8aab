"""The paper's method without its reservoir: the network of eq. 11 reads the sequences that would drive it."""

from __future__ import annotations

from rcdp_hpc.comparison.methods.mfo import READOUT_SPACE
from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.comparison.methods.settings import NO_DENSITY_TERM, completed, input_only, searched_by, with_own
from rcdp_hpc.config import Config, DataFacts


class NoReservoir(PipelineMethod):
    """As `rcdp_hpc.comparison.methods.mfo.MothFlameReservoir`, without the reservoir and its dimensions."""

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: no reservoir, the network of eq. 11, and a moth-flame search of it."""
        base = completed(config, facts, {"readout.kind": "network", "reservoir.kind": "none"})
        return with_own(base, {**input_only(base), **searched_by("mfo", READOUT_SPACE), **NO_DENSITY_TERM})

"""The paper's method with an LSTM: 100 components of the reservoir's output into 128 units.

S. Mirjalili, "Moth-flame optimization algorithm: A novel nature-inspired heuristic paradigm", Knowledge-Based Systems
89 (2015) 228-249; S. Hochreiter, J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997) 1735-1780.
"""

from __future__ import annotations

from typing import Any

from rcdp_hpc.comparison.methods.mfo import own_space, reservoir_space
from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.comparison.methods.settings import (
    TRAINING,
    completed,
    refuse_one_step,
    searched_by,
    with_own,
    without_joined_features,
)
from rcdp_hpc.config import Config, DataFacts

COMPONENTS = 100
UNITS = 128
# Dimensions of what the paper fixes, and of states that are left out.
FIXED = ("outputs", "hidden", "states")


class MothFlameReservoirLSTM(PipelineMethod):
    """A reservoir, all of whose states an LSTM reads, searched by `rcdp_hpc.search.optimizers.moth_flame`.

    The widths are the paper's; reservoir, learning rate and dropout are searched.
    """

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: a random reservoir, an LSTM readout of its states, and a search."""
        parts: dict[str, Any] = {
            "readout.kind": "lstm",
            "readout.outputs": COMPONENTS,
            "readout.hidden": UNITS,
            "readout.layers": 1,
            "reservoir.kind": "random",
            "reservoir.reduction": "all",
            "reservoir.steps": [],
            "reservoir.warm_up": 0,
            **without_joined_features(config),
        }
        base = completed(config, facts, parts)
        space = {**reservoir_space(base), **TRAINING, **own_space(base, FIXED)}
        return with_own(base, searched_by("mfo", space))

    def check(self, config: Config, facts: DataFacts) -> None:
        """Raise an `InputError` if samples have a single step, or do not fit the settings."""
        refuse_one_step(config, facts)
        super().check(config, facts)

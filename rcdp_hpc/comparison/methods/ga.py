"""GA: the network of eq. 11 on the input, its structure and training searched by a genetic algorithm.

D. E. Goldberg, K. Deb, "A comparative analysis of selection schemes used in genetic algorithms", Foundations of
Genetic Algorithms 1 (1991) 69-93; K. Deb, R. B. Agrawal, "Simulated binary crossover for continuous search space",
Complex Systems 9 (1995) 115-148; K. Deb, M. Goyal, "A combined genetic adaptive search (GeneAS) for engineering
design", Computer Science and Informatics 26 (1996) 30-45.
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
    searched_by,
    with_own,
    without_joined_features,
)
from rcdp_hpc.config import Config, DataFacts

SPACE: dict[str, Any] = {
    "hidden": WIDTH,
    **TRAINING,
    "readout_layers": DEPTH,
    "outputs": WIDTH,
    "readout_activation": {"choices": ["relu", "tanh", "sigmoid"]},
}


class GeneticNetwork(PipelineMethod):
    """Layers, widths, activation, learning rate and dropout by `rcdp_hpc.search.optimizers.genetic`; no reservoir."""

    def settings(self, config: Config, facts: DataFacts) -> Config:
        """Return the settings: no reservoir, the network of eq. 11, and a search of its structure."""
        parts = {"readout.kind": "network", "reservoir.kind": "none", **without_joined_features(config)}
        base = completed(config, facts, parts)
        return with_own(base, {**input_only(base), **searched_by("ga", SPACE), **NO_DENSITY_TERM})

"""Optimisers of the search: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

SEARCH_OPTIMIZERS = ChoiceTable(
    "search.optimizer",
    (
        Choice("mfo", "moth-flame optimisation (paper)"),
        Choice("woa", "whale optimisation"),
        Choice("avoa", "African vultures optimisation"),
        Choice("pso", "particle swarm optimisation"),
        Choice("ga", "genetic algorithm"),
        Choice("random", "uniform random search"),
        Choice("sobol", "Sobol sequence"),
    ),
)

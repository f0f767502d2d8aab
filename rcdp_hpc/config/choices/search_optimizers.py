"""Optimisers of the search, and improvements of moth-flame: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

PACKAGE = "rcdp_hpc.search.optimizers"

SEARCH_OPTIMIZERS = ChoiceTable(
    "search.optimizer",
    (
        Choice(
            "mfo",
            "moth-flame optimisation (paper)",
            f"{PACKAGE}.moth_flame:MothFlame",
            keys=("search.improvements",),
        ),
        Choice("woa", "whale optimisation", f"{PACKAGE}.whale:Whale"),
        Choice("avoa", "African vultures optimisation", f"{PACKAGE}.vultures:Vultures"),
        Choice("pso", "particle swarm optimisation", f"{PACKAGE}.particle_swarm:ParticleSwarm"),
        Choice("ga", "genetic algorithm", f"{PACKAGE}.genetic:Genetic"),
        Choice("random", "uniform random search", f"{PACKAGE}.random_search:RandomSearch"),
        Choice("sobol", "Sobol sequence", f"{PACKAGE}.sobol:Sobol"),
    ),
    user_class="an optimiser of your own (docs/extending.md)",
)

MOTH_FLAME_IMPROVEMENTS = ChoiceTable(
    "search.improvements",
    (
        Choice(
            "opposition",
            "half of the first moths are the opposites of the others",
            f"{PACKAGE}.improvements.opposition:Opposition",
        ),
        Choice("levy", "a step of a Levy flight after each move", f"{PACKAGE}.improvements.levy:Levy"),
        Choice(
            "restart",
            "draw the last quarter again after 5 generations without a better flame",
            f"{PACKAGE}.improvements.restart:Restart",
        ),
    ),
)

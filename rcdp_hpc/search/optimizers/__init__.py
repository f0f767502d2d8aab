"""Optimisers of the search, behind one interface of ask and tell; they use neither MPI nor files.

`rcdp_hpc.config.choices.search_optimizers` is the table of them.
"""

from rcdp_hpc.search.optimizers.base import Costs, Optimizer, Positions
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

__all__ = ["Costs", "Optimizer", "PopulationOptimizer", "Positions"]

"""Optimisers of the search, with one interface of ask and tell; they use neither MPI nor files.

`rcdp_hpc.config.choices.search_optimizers` is the table of them.

Examples
--------
>>> from rcdp_hpc.search.optimizers import MothFlame
>>> optimizer = MothFlame(lower=[-5, -5], upper=[5, 5], population=20, generations=50, seed=1)
>>> while not optimizer.done:
...     positions = optimizer.ask()
...     optimizer.tell(((positions - [1, 2]) ** 2).sum(axis=1))
>>> position, cost = optimizer.best()
>>> bool(cost < 1e-6)
True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rcdp_hpc.config.choices import SEARCH_OPTIMIZERS
from rcdp_hpc.search.optimizers.base import Costs, Optimizer, Positions
from rcdp_hpc.search.optimizers.population import PopulationOptimizer

if TYPE_CHECKING:
    from rcdp_hpc.search.optimizers.genetic import Genetic
    from rcdp_hpc.search.optimizers.moth_flame import MothFlame
    from rcdp_hpc.search.optimizers.particle_swarm import ParticleSwarm
    from rcdp_hpc.search.optimizers.random_search import RandomSearch
    from rcdp_hpc.search.optimizers.sobol import Sobol
    from rcdp_hpc.search.optimizers.vultures import Vultures
    from rcdp_hpc.search.optimizers.whale import Whale

__all__ = [
    "Costs",
    "Genetic",
    "MothFlame",
    "Optimizer",
    "ParticleSwarm",
    "PopulationOptimizer",
    "Positions",
    "RandomSearch",
    "Sobol",
    "Vultures",
    "Whale",
]

# Class -> "module:Class", imported at its first use: Sobol's loads SciPy.
_TARGETS = {choice.target.rpartition(":")[2]: choice.target for choice in SEARCH_OPTIMIZERS}


def __getattr__(name: str) -> Any:
    if name in _TARGETS:
        return getattr(import_module(_TARGETS[name].partition(":")[0]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

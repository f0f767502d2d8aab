"""Optimisers behind one interface of ask and tell; they know neither ranks nor files."""

from rcdp_hpc.search.optimizers.base import Optimizer
from rcdp_hpc.search.optimizers.genetic import Genetic
from rcdp_hpc.search.optimizers.grid import Grid
from rcdp_hpc.search.optimizers.improved import ImprovedMothFlame
from rcdp_hpc.search.optimizers.moth_flame import MothFlame
from rcdp_hpc.search.optimizers.particle_swarm import ParticleSwarm
from rcdp_hpc.search.optimizers.random_search import RandomSearch
from rcdp_hpc.search.optimizers.sobol import Sobol
from rcdp_hpc.search.optimizers.vultures import Vultures
from rcdp_hpc.search.optimizers.whale import Whale

# By the word for each in search.optimizer.
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "mfo": MothFlame,
    "woa": Whale,
    "avoa": Vultures,
    "pso": ParticleSwarm,
    "ga": Genetic,
    "random": RandomSearch,
    "sobol": Sobol,
}

__all__ = [
    "OPTIMIZERS",
    "Genetic",
    "Grid",
    "ImprovedMothFlame",
    "MothFlame",
    "Optimizer",
    "ParticleSwarm",
    "RandomSearch",
    "Sobol",
    "Vultures",
    "Whale",
]

"""Optimisers behind one interface of ask and tell; they know neither ranks nor files."""

from rcdp_hpc.search.optimizers.base import Optimizer
from rcdp_hpc.search.optimizers.moth_flame import MothFlame
from rcdp_hpc.search.optimizers.random_search import RandomSearch

__all__ = ["MothFlame", "Optimizer", "RandomSearch"]

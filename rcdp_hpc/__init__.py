"""Reservoir computing, data parallel: balance, search and train on Slurm/MPI clusters."""

__version__ = "0.1.0"

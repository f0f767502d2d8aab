"""PSO-LSTM: an LSTM searched by particle swarm optimisation.

J. Kennedy, R. Eberhart, "Particle swarm optimization", Proc. ICNN'95, vol. 4 (1995) 1942-1948.
"""

from __future__ import annotations

from rcdp_hpc.comparison.methods.lstm import SearchedLSTM


class ParticleSwarmLSTM(SearchedLSTM):
    """`SearchedLSTM` with particle swarm optimisation (`rcdp_hpc.search.optimizers.particle_swarm`)."""

    optimizer = "pso"

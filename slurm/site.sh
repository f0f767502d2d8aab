# shellcheck shell=bash
# Settings of your site, read by every script here. Copy this file, edit the copy, and name it in RCDP_SITE:
#   RCDP_SITE=~/my-site.sh slurm/chain.sh digits runs/first
# Account and partition can also be given to sbatch itself, or in SBATCH_ACCOUNT and SBATCH_PARTITION.

# What makes `rcdp` available: the virtual environment of `make setup`, or your site's modules.
RCDP_VENV="${RCDP_VENV:-$PWD/.venv}"
# module load gcc openmpi cuda
# shellcheck source=/dev/null
. "$RCDP_VENV/bin/activate"

# How ranks are started. Open MPI and Slurm speak PMIx; for MPICH take "srun --mpi=pmi2 --kill-on-bad-exit=1".
# Without a PMI that both speak, start mpirun inside the allocation; it must give ranks time to write a checkpoint:
#   RCDP_LAUNCH="mpirun --mca odls_base_sigkill_timeout 60"
RCDP_LAUNCH="${RCDP_LAUNCH:-srun --mpi=pmix --kill-on-bad-exit=1 --wait=120}"

# Ranks share a node's cores: each takes what Slurm gave it, and no more.
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

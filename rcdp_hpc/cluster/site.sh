# shellcheck shell=bash disable=SC2034
# What differs from site to site. Copy this file, edit the copy, and name it: `rcdp submit --site FILE`, or RCDP_SITE=FILE
# for the scripts in slurm/. It is read on the login node and in every job.

# Options of sbatch: for every job, and for those of one stage besides. One word an option, in quotes where it has blanks.
#   EVERY_JOB=(--account=physics --partition=cpu)
#   TRAIN_JOB=(--partition=gpu --ntasks=4 --gpus-per-task=1)
EVERY_JOB=()
PREPARE_JOB=()
SEARCH_JOB=()
TRAIN_JOB=()
EVALUATE_JOB=()
ALL_JOB=()

# What makes `rcdp` available on a compute node: the environment of `make setup`, or your site's modules.
load_environment() {
    # module load gcc openmpi cuda
    # shellcheck source=/dev/null
    . "${RCDP_VENV:-$PWD/.venv}/bin/activate"
}

# The command itself. In a container (docs/slurm.md): "apptainer exec --nv /path/to/rcdp.sif rcdp"
RCDP_COMMAND="${RCDP_COMMAND:-rcdp}"

# How ranks are started. Open MPI and Slurm speak PMIx. Where they do not:
#   "srun --mpi=pmi2"                                           for MPICH and its kin
#   "mpirun --bind-to none"                                     Open MPI inside the allocation, with no PMI at all
RCDP_LAUNCH="${RCDP_LAUNCH:-srun --mpi=pmix}"

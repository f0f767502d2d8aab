# shellcheck shell=bash disable=SC2034
# Settings of a site. Copy this file, edit the copy, and name it: `rcdp submit --site FILE`, or RCDP_SITE=FILE for the
# scripts in slurm/. It is read on the login node and in every job.

# Options of sbatch for every job, and further options for the jobs of one stage. Quote options that contain blanks.
#   EVERY_JOB=(--account=physics --partition=cpu)
#   TRAIN_JOB=(--partition=gpu --ntasks=4 --gpus-per-task=1)
EVERY_JOB=()
PREPARE_JOB=()
SEARCH_JOB=()
TRAIN_JOB=()
EVALUATE_JOB=()
ALL_JOB=()

# Makes `rcdp` available on a compute node: the environment of `make setup`, or modules of your site.
load_environment() {
    # module load gcc openmpi cuda
    # shellcheck source=/dev/null
    . "${RCDP_VENV:-$PWD/.venv}/bin/activate"
}

# The command. In a container (docs/slurm.md): "apptainer exec --nv /path/to/rcdp.sif rcdp"
RCDP_COMMAND="${RCDP_COMMAND:-rcdp}"

# The command that starts ranks. The default is for Open MPI and Slurm with PMIx. Alternatives:
#   "srun --mpi=pmi2"                                           for MPICH and related libraries
#   "mpirun --bind-to none"                                     for Open MPI within the allocation, without PMI
RCDP_LAUNCH="${RCDP_LAUNCH:-srun --mpi=pmix}"

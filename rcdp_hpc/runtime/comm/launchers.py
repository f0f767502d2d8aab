"""The launchers: one class for each, and the order in which they are tried."""

from __future__ import annotations

from collections.abc import Mapping

from rcdp_hpc.runtime.comm.launcher import Launch, Launcher


class MPILauncher(Launcher):
    """A launcher whose ranks are connected by MPI. Its variables are all that it takes to detect it."""

    kind = "mpi"
    transport = "mpi"

    def detect(self, environ: Mapping[str, str]) -> Launch | None:
        """Return the launch if both variables are set."""
        return self.launch(environ)

    def on_one_node(self, environ: Mapping[str, str]) -> bool:
        """Return whether all ranks of the job are on one node, as far as the launcher or Slurm says."""
        local, everywhere = environ.get(self.local_size_variable), environ.get(self.size_variable)
        if local and everywhere:
            return local == everywhere
        return environ.get("SLURM_STEP_NUM_NODES") == "1"


class OpenMPI(MPILauncher):
    """mpirun of Open MPI, also if horovodrun calls it."""

    name = "mpirun (Open MPI)"
    rank_variable = "OMPI_COMM_WORLD_RANK"
    size_variable = "OMPI_COMM_WORLD_SIZE"
    local_rank_variable = "OMPI_COMM_WORLD_LOCAL_RANK"
    local_size_variable = "OMPI_COMM_WORLD_LOCAL_SIZE"
    kills_on_interrupt = True
    port_text = "mpirun listens on all interfaces"
    ranks_option = "mpirun --map-by ppr:{count}:node"


class PMI(MPILauncher):
    """mpiexec of MPICH, Intel MPI and others that speak PMI."""

    name = "an MPI launcher (PMI)"
    rank_variable = "PMI_RANK"
    size_variable = "PMI_SIZE"
    local_rank_variable = "MPI_LOCALRANKID"
    local_size_variable = "MPI_LOCALNRANKS"
    ranks_option = "mpiexec -ppn {count}"


class Slurm(MPILauncher):
    """Srun.

    SLURM_NTASKS is not used, because the environment of a batch script, which has no ranks, has it as well.
    """

    name = "srun"
    rank_variable = "SLURM_PROCID"
    size_variable = "SLURM_STEP_NUM_TASKS"
    local_rank_variable = "SLURM_LOCALID"
    ranks_option = "srun --ntasks-per-node={count} --gpus-per-node={count}"


class HorovodrunGloo(Launcher):
    """Horovodrun with Gloo, in which each process is an MPI world of its own."""

    name = "horovodrun (Gloo)"
    kind = "horovod-gloo"
    transport = "horovod"
    rank_variable = "HOROVOD_RANK"
    size_variable = "HOROVOD_SIZE"
    local_rank_variable = "HOROVOD_LOCAL_RANK"
    port_text = "horovodrun listens on all interfaces"
    ranks_option = "horovodrun with -H and {count} slots for each host"

    def detect(self, environ: Mapping[str, str]) -> Launch | None:
        """Return the launch if there is the address of horovodrun's store."""
        if not environ.get("HOROVOD_GLOO_RENDEZVOUS_ADDR"):
            return None
        by_mpirun = OpenMPI().launch(environ, _GLOO_AND_MPI)
        return by_mpirun or self.launch(environ, elastic="HOROVOD_ELASTIC" in environ)


class Torchrun(Launcher):
    """Torchrun, and its older name ``python -m torch.distributed.launch``."""

    name = "torchrun"
    kind = "torchrun"
    transport = "torch"
    rank_variable = "RANK"
    size_variable = "WORLD_SIZE"
    local_rank_variable = "LOCAL_RANK"
    local_size_variable = "LOCAL_WORLD_SIZE"
    port_text = "torchrun listens on all interfaces"
    ranks_option = "torchrun --nproc-per-node {count}"
    # Torchrun sets this variable in each of its ranks, and nothing else does.
    marker = "TORCHELASTIC_RUN_ID"

    def detect(self, environ: Mapping[str, str]) -> Launch | None:
        """Return the launch if there is the marker and there are several ranks."""
        if not environ.get(self.marker):
            return None
        launch = self.launch(environ)
        if launch is None or launch.size == 1:
            return None
        # torchrun --master-port 0 does not choose a free port, but passes 0 on.
        unset = [name for name in ("MASTER_ADDR", "MASTER_PORT") if environ.get(name, "").strip() in ("", "0")]
        return self.launch(environ, self._unconnected(launch.size, " and ".join(unset)) if unset else "")

    def _unconnected(self, size: int, unset: str) -> str:
        return (
            f"{self.rank_variable} and {self.size_variable} = {size} are set as by torchrun, but not {unset}, with "
            f"which the ranks find each other. Start the command with torchrun --nproc-per-node {size}, mpirun -n "
            f"{size} or horovodrun -np {size} (on Slurm: srun --mpi=pmix)."
        )


class TorchVariables(Torchrun):
    """The variables of torch.distributed without torchrun's own: another program that starts ranks for it.

    Under mpirun and srun, users set RANK and WORLD_SIZE themselves, so this is the last one to try.
    """

    marker = "LOCAL_RANK"


# The first that detects itself counts. Torchrun may run within a step of srun, one on each node. Inside a Slurm job,
# mpirun starts its daemons through srun, and Slurm's variables, which may count these daemons, come after mpirun's.
LAUNCHERS: tuple[Launcher, ...] = (
    HorovodrunGloo(),
    Torchrun(),
    OpenMPI(),
    PMI(),
    Slurm(),
    TorchVariables(),
)

_GLOO_AND_MPI = (
    "the environment has variables of both mpirun (OMPI_COMM_WORLD_SIZE) and horovodrun with Gloo "
    "(HOROVOD_GLOO_RENDEZVOUS_ADDR), which count different ranks. Start the command with one of them, and unset the "
    "HOROVOD_* variables that an earlier horovodrun has left."
)

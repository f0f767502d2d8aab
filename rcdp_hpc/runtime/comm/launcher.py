"""How a launcher starts ranks, and what a rank can expect of it.

This is read from the environment variables of the launchers, so it works without MPI, torch and Horovod.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass


class WrongVariableError(Exception):
    """A variable of a launcher is not a valid rank or size."""


class Launcher(ABC):
    """A program that starts the ranks of a job.

    Attributes
    ----------
    name : str
        For messages.
    kind : str
        For the report of ``rcdp doctor``.
    transport : {"none", "mpi", "horovod", "torch"}
        What connects the ranks: a key of `rcdp_hpc.runtime.comm.connect.CONNECTIONS`.
    rank_variable, size_variable : str
        Environment variables with the rank and the number of ranks of the job.
    local_rank_variable, local_size_variable : str
        The same on the node of the rank; empty if the launcher sets none.
    kills_on_interrupt : bool
        Whether the launcher kills its ranks, and drops their output, a moment after Ctrl-C or SIGTERM.
    port_text : str
        What the launcher itself opens, for the line ``network`` of ``rcdp doctor``.
    ranks_option : str
        How to start a number of ranks, ``{count}``, on each node; empty if nothing starts ranks.
    """

    name: str
    kind: str
    transport: str
    rank_variable: str = ""
    size_variable: str = ""
    local_rank_variable: str = ""
    local_size_variable: str = ""
    kills_on_interrupt = False
    port_text = "the launcher listens"
    ranks_option: str = ""

    @abstractmethod
    def detect(self, environ: Mapping[str, str]) -> Launch | None:
        """Return how this launcher started the process with this environment; None if it did not.

        Raises
        ------
        WrongVariableError
            If a variable of the launcher is not a valid rank or size.
        """

    def on_one_node(self, environ: Mapping[str, str]) -> bool:
        """Return whether all ranks of the job are on one node, as far as the launcher says."""
        local, everywhere = environ.get(self.local_size_variable, ""), environ.get(self.size_variable, "")
        return bool(local) and local == everywhere

    def launch(self, environ: Mapping[str, str], conflict: str = "", elastic: bool = False) -> Launch | None:
        """Return the launch with this launcher's rank and size; None if one of the variables is not set or empty."""
        names = (self.rank_variable, self.size_variable)
        values = [environ.get(name, "").strip() for name in names]
        if not all(values):
            return None
        for name, value in zip(names, values, strict=True):
            if not re.fullmatch(r"[0-9]{1,9}", value):
                raise WrongVariableError(self._wrong(name, environ[name], "is not a number"))
        rank, size = map(int, values)
        if rank >= size:
            raise WrongVariableError(self._wrong(names[0], environ[names[0]], f"is not less than {names[1]} = {size}"))
        return Launch(self, rank, size, conflict, elastic)

    def _wrong(self, name: str, value: str, what: str) -> str:
        return (
            f"the environment variable {name} = {value!r} {what}. {self.name} sets it to the rank or the number of "
            f"ranks. Unset it (unset {name}), or start the command with mpirun, srun, horovodrun or torchrun."
        )


@dataclass(frozen=True)
class Launch:
    """How this process was started.

    Attributes
    ----------
    launcher : Launcher
        What started the ranks; `NO_LAUNCHER` for a single process.
    rank, size : int
        Values of the launcher's variables. The communicator's rank and size are checked against them.
    conflict : str
        Why a job cannot be started this way, and what to do instead; empty if it can.
    elastic : bool
        Whether the job continues when a rank is lost (``horovodrun --gloo --min-np``).
    """

    launcher: Launcher
    rank: int
    size: int
    conflict: str = ""
    elastic: bool = False

    @property
    def transport(self) -> str:
        """What connects the ranks: "none", "mpi", "horovod" or "torch"."""
        return self.launcher.transport

    @property
    def uses_mpi(self) -> bool:
        """Whether the ranks are connected by MPI."""
        return self.transport == "mpi"

    def on_one_node(self, environ: Mapping[str, str]) -> bool:
        """Return whether all ranks of the job are on one node, as far as the launcher says."""
        return self.launcher.on_one_node(environ)


class NoLauncher(Launcher):
    """A process that no launcher has started."""

    name = "no launcher"
    kind = "single"
    transport = "none"

    def detect(self, environ: Mapping[str, str]) -> Launch | None:
        """Return a single process."""
        return Launch(self, 0, 1)


NO_LAUNCHER = NoLauncher()

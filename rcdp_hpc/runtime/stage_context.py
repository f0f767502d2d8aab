"""The arguments that every stage takes, as one object."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config import Config
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.rundir import RunDirectory


@dataclass(frozen=True)
class StageContext:
    """What a stage works with.

    Attributes
    ----------
    config : Config
        Settings of the stage, resolved (`rcdp_hpc.pipeline.resolve`) and equal on all ranks.
    comm : Communicator
        All ranks of the job.
    run : RunDirectory
        Where the stage reads its inputs and writes its results.
    """

    config: Config
    comm: Communicator
    run: RunDirectory

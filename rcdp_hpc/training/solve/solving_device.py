"""The device that solves a readout: that of the states, if every rank has room for it there."""

from __future__ import annotations

import logging

import numpy as np
import torch

from rcdp_hpc.reservoir.device_sums import free_memory
from rcdp_hpc.runtime.comm.base import Communicator

log = logging.getLogger(__name__)

GIB = 2**30


def device_with_room(
    comm: Communicator, device: torch.device | None, needed: int, what: str, level: int = logging.WARNING
) -> torch.device | None:
    """Return the device of the states, or None, for the CPU, if a rank has no such device or no room. Collective.

    All ranks compute with the same library, so that the bits of a result do not depend on what is free on one of them.

    Parameters
    ----------
    comm : Communicator
    device : torch.device or None
        As `rcdp_hpc.reservoir.device_sums.sums_device` returns it for the states of this rank.
    needed : int
        Bytes.
    what : str
        What needs them, for the log.
    level : int
        Level of the log.
    """
    free = None if device is None else free_memory(device)
    fits = device is not None and (free is None or needed <= free)
    if float(comm.allreduce(np.array([float(fits)]), op="min")[0]):
        return device
    if device is not None and not fits and free is not None:
        log.log(
            level,
            "%s needs %.1f GiB on %s, and %.1f GiB are free there: computed on the CPU, from copies of the states",
            *(what, needed / GIB, device, free / GIB),
        )
    return None

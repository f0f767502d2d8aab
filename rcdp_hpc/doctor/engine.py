"""Which engine a training of several ranks will use, and why."""

from __future__ import annotations

from rcdp_hpc.doctor.probes import Facts
from rcdp_hpc.runtime.comm.launcher import Launch

WITH_TORCH = "with parallel.engine = 'torch'"


def engine_of(facts: Facts, launch: Launch) -> Facts:
    """Return the engine that ``parallel.engine = "auto"`` chooses in a job that is started like this process.

    Returns
    -------
    dict
        ``name`` ("horovod", "torch", or None if neither can run), ``shown`` (the name for a report) and ``why``.
    """
    without_horovod = obstacle_of_horovod(facts, launch)
    without_torch = obstacle_of_torch(facts, launch)
    torch = f"torch.distributed ({', '.join(facts['torch_distributed'].get('backends', []))})"
    if not without_horovod:
        other = f"torch.distributed cannot run: {without_torch}" if without_torch else f"{WITH_TORCH}: {torch}"
        return {"name": "horovod", "shown": "Horovod", "why": other}
    if not without_torch:
        return {"name": "torch", "shown": torch, "why": f"Horovod cannot run: {without_horovod}"}
    why = f"Horovod cannot run: {without_horovod}; torch.distributed cannot run: {without_torch}"
    return {"name": None, "shown": "none", "why": why}


def obstacle_of_horovod(facts: Facts, launch: Launch) -> str:
    """Return why Horovod cannot train here; empty if it can."""
    if launch.transport == "torch":
        return "it cannot connect the ranks of torchrun"
    if "error" in facts["horovod"]:
        return str(facts["horovod"]["error"])
    needed = "Gloo" if launch.transport == "horovod" else "MPI"
    if needed in facts["horovod"]["controllers"]:
        return ""
    with_gloo = " (horovodrun --gloo can start it)" if "Gloo" in facts["horovod"]["controllers"] else ""
    return f"it was built without {needed}{with_gloo}"


def obstacle_of_torch(facts: Facts, launch: Launch) -> str:
    """Return why torch.distributed cannot train here; empty if it can."""
    if launch.elastic:
        return "elastic runs (horovodrun --min-np) need Horovod"
    return str(facts["torch_distributed"].get("error", ""))

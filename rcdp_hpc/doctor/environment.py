"""Inspection of the environment: installed packages, launcher, Slurm and GPUs."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import rcdp_hpc
from rcdp_hpc.doctor import subprocess_checks
from rcdp_hpc.doctor.engine import engine_of
from rcdp_hpc.doctor.probes import PROBES, Facts
from rcdp_hpc.doctor.requirements import stages_of, torchrun_works
from rcdp_hpc.runtime.comm.launch import detect
from rcdp_hpc.runtime.comm.open_ports import describe_open_ports


def inspect_environment() -> Facts:
    """Return what is installed and which stages are ready.

    Returns
    -------
    dict
        ``python``, ``launch``, ``network``, ``mpirun``, ``slurm``, an entry for each of `probes.PROBES` (with ``error``
        if it failed), ``engine`` (`engine.engine_of`), ``notes``,
        ``stages`` (each ``{"ready": bool, "missing": [{"what", "do"}]}``) and ``ready``.
    """
    launch = detect()
    facts: Facts = {
        "rcdp_hpc": rcdp_hpc.__version__,
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "launch": {
            "kind": launch.launcher.kind,
            "size": launch.size,
            "launcher": launch.launcher.name,
            "conflict": launch.conflict,
        },
        "network": describe_open_ports(launch),
        "mpirun": _mpirun(),
        "slurm": _slurm(),
        "gpu_driver": _gpus_of_driver(),
    }
    if launch.uses_mpi:
        facts["launch"]["world"] = subprocess_checks.probe("world", os.environ)
    # The speed of torch is measured while no other probe runs.
    facts["torch"] = subprocess_checks.probe("torch")
    others = [name for name in PROBES if name != "torch"]
    with ThreadPoolExecutor(max_workers=2) as pool:
        facts.update(zip(others, pool.map(subprocess_checks.probe, others), strict=True))
    facts["engine"] = engine_of(facts, launch)
    facts["notes"] = _notes(facts)
    facts["stages"] = stages_of(facts)
    facts["ready"] = all(stage["ready"] for stage in facts["stages"].values())
    return facts


def _mpirun() -> Facts:
    in_environment = os.path.join(os.path.dirname(sys.executable), "mpirun")
    path = shutil.which("mpirun") or shutil.which(in_environment)
    if path is None:
        return {"error": "not on the PATH"}
    return {"path": path, "version": subprocess_checks.output_of(path, "--version").partition("\n")[0]}


def _gpus_of_driver() -> list[str]:
    return subprocess_checks.output_of("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def _slurm() -> Facts:
    version = subprocess_checks.output_of("sinfo", "--version") or subprocess_checks.output_of("srun", "--version")
    if not version:
        return {"error": "no Slurm commands on the PATH"}
    plugins = re.findall(
        r"\b(pmix(?:_v\d+)?|pmi2|cray_shasta|none)\b", subprocess_checks.output_of("srun", "--mpi=list")
    )
    return {
        "version": version.removeprefix("slurm").strip(),
        "mpi": sorted(set(plugins) - {"none"}),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def _notes(facts: Facts) -> list[str]:
    """Return remarks on things that work but could work better, or may cause problems."""
    torch, horovod = facts["torch"], facts["horovod"]
    notes = [facts["launch"]["conflict"]] if facts["launch"].get("conflict") else []
    if facts["gpu_driver"] and "version" in torch and not torch["gpus"]:
        why = "a CPU build" if torch["cuda"] is None else f"built for CUDA {torch['cuda']}, which the driver refuses"
        notes.append(
            f"this machine has GPUs, but torch is {why}: install torch's CUDA build, then run make setup again"
        )
    if "error" in horovod and facts["engine"]["name"] == "torch":
        notes.append(
            f"Horovod cannot be used ({horovod['error']}): training runs with torch.distributed instead; "
            "docs/install.md says how to add Horovod"
        )
    if "error" in facts["mpi"] and torchrun_works(facts):
        notes.append(f"no MPI ({facts['mpi']['error']}): start several ranks with torchrun")
    if "error" in facts["matplotlib"]:
        notes.append(
            f"reports have no pictures, because matplotlib cannot be imported ({facts['matplotlib']['error']}): "
            "pip install 'rcdp_hpc[report]'"
        )
    if torch.get("gpus") and "NCCL" not in horovod.get("operations", ["NCCL"]):
        notes.append(
            "torch sees GPUs, but Horovod was built without NCCL: load the site's CUDA toolkit (nvcc on the PATH), "
            "then run make setup again"
        )
    if torch.get("nccl", {}).get("error"):
        notes.append(
            f"NCCL cannot sum over the GPUs of this machine ({torch['nccl']['error']}), so trainings on several of "
            "them fail: NCCL_DEBUG=INFO rcdp doctor --json shows its messages; check the driver, and the network "
            "interface that NCCL_SOCKET_IFNAME names"
        )
    if "error" in facts["mpirun"] and "error" in facts["slurm"] and "error" not in facts["mpi"]:
        notes.append("neither mpirun nor srun is on the PATH: load the site's MPI module to start several ranks")
    if facts["slurm"].get("version") and not any(name.startswith("pmi") for name in facts["slurm"]["mpi"]):
        notes.append("srun of this Slurm has no PMI (srun --mpi=list): start ranks with mpirun in a job of sbatch")
    return notes

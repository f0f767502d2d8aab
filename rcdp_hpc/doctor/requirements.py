"""Requirements of each stage, and what to do if they are missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rcdp_hpc.doctor.probes import Facts

SETUP = "run make setup in the checkout, or pip install '.[torch]' (docs/install.md)"
PIP_CORE = "pip install . in the checkout, or make setup"


def _missing_packages(facts: Facts) -> tuple[str, str] | None:
    if "error" in facts["packages"]:
        return f"the core packages ({facts['packages']['error']})", PIP_CORE
    errors = {name: result["error"] for name, result in facts["packages"]["versions"].items() if "error" in result}
    return (", ".join(f"{name} ({error})" for name, error in errors.items()), PIP_CORE) if errors else None


def _missing(name: str, shown: str) -> Callable[[Facts], tuple[str, str] | None]:
    def check(facts: Facts) -> tuple[str, str] | None:
        error = facts[name].get("error")
        return (f"{shown} ({error})", SETUP) if error else None

    return check


def torchrun_works(facts: Facts) -> bool:
    """Return whether torchrun can start ranks that see each other."""
    return "error" not in facts["torch"] and "error" not in facts["torch_distributed"]


def _missing_connection(facts: Facts) -> tuple[str, str] | None:
    """Return what connects several ranks, if it is missing: MPI, or torch.distributed under torchrun."""
    kind = facts["launch"]["kind"]
    if kind == "torchrun":
        return None if torchrun_works(facts) else _missing("torch_distributed", "torch.distributed with Gloo")(facts)
    return None if kind == "single" and torchrun_works(facts) else _missing("mpi", "MPI through mpi4py")(facts)


def _missing_world(facts: Facts) -> tuple[str, str] | None:
    world = facts["launch"].get("world")
    if world is None or world.get("size") == facts["launch"]["size"] or "error" in facts["mpi"]:
        return None
    seen = world.get("error") or f"the MPI library sees {world['size']}"
    return (
        f"ranks that see each other ({facts['launch']['launcher']} started {facts['launch']['size']}, {seen})",
        "use the mpirun of the MPI named above, or srun --mpi=pmix (MPICH: --mpi=pmi2)",
    )


def _missing_engine(facts: Facts) -> tuple[str, str] | None:
    engine = facts["engine"]
    return None if engine["name"] else (f"an engine for several ranks ({engine['why']})", SETUP)


_MPI = (_missing_connection, _missing_world)
_TORCH = _missing("torch", "torch")
REQUIREMENTS: Mapping[str, tuple[Callable[[Facts], tuple[str, str] | None], ...]] = {
    "prepare": (_missing_packages,),
    "search": (_missing_packages, _TORCH, *_MPI),
    "train": (_missing_packages, _TORCH, *_MPI, _missing_engine),
    "evaluate/predict": (_missing_packages, _TORCH),
}


def stages_of(facts: Facts) -> Facts:
    """Return by stage whether it is ready, and its missing requirements with remedies."""
    stages: Facts = {}
    for stage, checks in REQUIREMENTS.items():
        missing = [result for result in (check(facts) for check in checks) if result is not None]
        stages[stage] = {
            "ready": not missing,
            "missing": [{"what": what, "do": remedy} for what, remedy in missing],
        }
    return stages

"""Reservoir computing, data parallel: balance, search and train on Slurm/MPI clusters.

Examples
--------
>>> import rcdp_hpc
>>> config = rcdp_hpc.load_config("digits", ["training.epochs=5"])
>>> result = rcdp_hpc.run(config, out="runs/first")  # doctest: +SKIP

Under mpirun pass ``comm=rcdp_hpc.connect()``.

Every stage is a function of its own: `prepare`, `search`, `train`, `evaluate`; `crossvalidate` runs all for each fold.
Importing this package needs neither torch nor Horovod nor MPI.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rcdp_hpc.runtime.openmp_waits import shorten_waits

if TYPE_CHECKING:
    from rcdp_hpc.config import Config, load_config
    from rcdp_hpc.pipeline.cross_validation import crossvalidate
    from rcdp_hpc.pipeline.stages import evaluate, prepare, run, search, train
    from rcdp_hpc.runtime.comm.connect import connect

# Nothing above loads OpenMP, and everything that does comes later: from here on its threads do not spin for long.
shorten_waits()

__version__ = "0.1.0"

__all__ = ["Config", "connect", "crossvalidate", "evaluate", "load_config", "prepare", "run", "search", "train"]


class _Search(ModuleType):
    """The modules of the search, and its stage: ``rcdp_hpc.search(config, out)`` runs it, as the other stages run."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("rcdp_hpc.pipeline.stages").search(*arguments, **options)


# The subpackage and the stage share a name; one object is both, whichever was used first.
import_module("rcdp_hpc.search").__class__ = _Search

# Imported when first used: the command line catches signals before it imports what takes a second.
_MODULES = {
    "rcdp_hpc.config": ("Config", "load_config"),
    "rcdp_hpc.pipeline.cross_validation": ("crossvalidate",),
    "rcdp_hpc.pipeline.stages": ("evaluate", "prepare", "run", "search", "train"),
    "rcdp_hpc.runtime.comm.connect": ("connect",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

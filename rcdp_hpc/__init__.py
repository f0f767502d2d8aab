"""Reservoir computing, data parallel: balance, search and train on Slurm/MPI clusters.

Examples
--------
>>> import rcdp_hpc
>>> config = rcdp_hpc.load_config("digits", training={"epochs": 5})
>>> result = rcdp_hpc.run(config, out="runs/first")  # doctest: +SKIP

Under mpirun, pass ``comm=rcdp_hpc.connect()``.

`run` runs all stages; `prepare`, `search`, `train` and `evaluate` run one each; `crossvalidate` runs all stages for
each fold; `compare` compares methods on one data set; `compress` makes a smaller
model of a trained one. `load`, `load_model` and `predict` use a trained model, `verify`
and `ShardReader` prepared shards; `Reservoir` computes states. `minimize` searches for the least value of a function of
your own. Importing this package needs neither torch, Horovod nor MPI.
"""

from __future__ import annotations

import logging
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rcdp_hpc.runtime.openmp_waits import shorten_waits

if TYPE_CHECKING:
    from rcdp_hpc.comparison.compare import compare
    from rcdp_hpc.config import Config, load_config
    from rcdp_hpc.data.shards.reader import ShardReader
    from rcdp_hpc.pipeline.compression import compress
    from rcdp_hpc.pipeline.cross_validation import crossvalidate
    from rcdp_hpc.pipeline.interface import export, load, load_model, predict, verify
    from rcdp_hpc.pipeline.stages import evaluate, prepare, run, search, train
    from rcdp_hpc.reservoir.states import Reservoir
    from rcdp_hpc.runtime.comm.connect import connect
    from rcdp_hpc.search.minimize import minimize

# Without a handler of the program's own, Python prints warnings on stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())

# OpenMP reads this setting when a library first loads it. None of the imports above does.
shorten_waits()

__version__ = "0.1.0"

__all__ = [
    "Config",
    "Reservoir",
    "ShardReader",
    "compare",
    "compress",
    "connect",
    "crossvalidate",
    "evaluate",
    "export",
    "load",
    "load_config",
    "load_model",
    "minimize",
    "predict",
    "prepare",
    "run",
    "search",
    "train",
    "verify",
]


class _CallableSubpackage(ModuleType):
    """The subpackage ``rcdp_hpc.search``; calling it as ``rcdp_hpc.search(config, out)`` runs the stage "search".

    The subpackage and the function of the stage have the same name. When Python imports a subpackage, it sets the
    attribute of the parent package to the module, which would replace a function of that name. So the module itself
    is callable.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return import_module("rcdp_hpc.pipeline.stages").search(*arguments, **options)


import_module("rcdp_hpc.search").__class__ = _CallableSubpackage

# Public names by module, imported at their first use: these modules take up to a second to import.
_MODULES = {
    "rcdp_hpc.comparison.compare": ("compare",),
    "rcdp_hpc.config": ("Config", "load_config"),
    "rcdp_hpc.pipeline.compression": ("compress",),
    "rcdp_hpc.pipeline.cross_validation": ("crossvalidate",),
    "rcdp_hpc.data.shards.reader": ("ShardReader",),
    "rcdp_hpc.pipeline.interface": ("export", "load", "load_model", "predict", "verify"),
    "rcdp_hpc.reservoir.states": ("Reservoir",),
    "rcdp_hpc.pipeline.stages": ("evaluate", "prepare", "run", "search", "train"),
    "rcdp_hpc.runtime.comm.connect": ("connect",),
    "rcdp_hpc.search.minimize": ("minimize",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

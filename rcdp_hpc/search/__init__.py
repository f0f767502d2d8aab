"""The search for good values of the reservoir and its readout: space, fitness, optimisers, evaluator over ranks."""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    # `rcdp_hpc.search.optimizers` needs no import of its own; importing rcdp_hpc must not load NumPy.
    if name == "optimizers":
        return import_module(f"{__name__}.optimizers")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""One reader for each kind of source; its module, and what that needs, is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import Source

# Path, the section [data], what may be held in memory, and whether progress is shown.
Reader = Callable[[Path, DataSection, Budget, bool], Source]


def module(name: str) -> Any:
    """Import a module of readers."""
    return import_module(f"rcdp_hpc.data.sources.{name}")


def _cifar(path: Path, data: DataSection, budget: Budget, _: bool) -> Any:
    return module("cifar").read_source(path, data.source, data.coarse_labels, budget)


def _table(path: Path, data: DataSection, budget: Budget, _: bool) -> Any:
    return module("tables").read_source(path, data, budget)


READERS: Mapping[str, Reader] = {
    "digits": lambda _path, _data, _budget, _: module("digits").read_source(),
    "mnist": lambda path, _data, budget, _: module("idx").read_source(path, budget),
    "npz": lambda path, data, budget, _: module("npz").read_source(path, data, budget),
    "npy": lambda path, data, budget, _: module("npy").read_source(path, data, budget),
    "cifar10": _cifar,
    "cifar100": _cifar,
    "csv": _table,
    "parquet": _table,
    "hdf5": lambda path, data, budget, _: module("hdf5").read_source(path, data, budget),
    "ts": lambda path, data, budget, _: module("ts").read_source(path, data, budget),
    "arff": lambda path, data, budget, _: module("arff").read_source(path, data, budget),
    "image_folder": lambda path, data, budget, shown: module("image_folder").read_source(path, data, budget, shown),
    "series_folder": lambda path, data, budget, _: module("series_folder").read_source(path, data, budget),
}

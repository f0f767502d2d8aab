"""The configurations of the experiment, from the shipped profiles of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.paper.scale import Scale
from rcdp_hpc.config import Config, DataSection, load_config

FOLDS = 5
TITLES = {"cifar10": "CIFAR-10", "mnist": "MNIST"}
# Folders of the comparisons of methods.
TABLES = {"cifar10": "table3", "mnist": "table4"}


@dataclass(frozen=True)
class DataFolders:
    """Where the data sets are.

    Attributes
    ----------
    mnist, cifar10 : Path
        Folders of the published files.
    """

    mnist: Path
    cifar10: Path

    def of(self, data: str) -> Path:
        """Return the folder of a data set by its name."""
        return self.cifar10 if data == "cifar10" else self.mnist


def comparison_settings(data: str, folders: DataFolders, scale: Scale, seeds: Sequence[int]) -> Config:
    """Return the settings of Table 3 (CIFAR-10) or 4 (MNIST).

    Every method reads rows of pixels in one arm, and the map of one trained extractor in the other: the paper does not
    say what its LSTM reads.

    Parameters
    ----------
    data : {"cifar10", "mnist"}
    folders : DataFolders
    scale : Scale
    seeds : sequence of int
    """
    compare = {"seeds": list(seeds), "arms": ["rows", "extractor"]}
    search = {"population": scale.population, "generations": scale.generations}
    return load_config(f"paper-{data}", **_sections(data, folders, scale, compare, search))


def fold_settings(folders: DataFolders, scale: Scale, seed: int) -> Config:
    """Return the settings of Fig. 4: five folds of MNIST."""
    compare = {"folds": FOLDS, "arms": ["rows"]}
    search = {"population": scale.fold_population, "generations": scale.fold_generations}
    sections = _sections("mnist", folders, scale, compare, search)
    sections["data"]["max_samples"] = scale.fold_samples
    sections["run"] = {"seed": seed}
    return load_config("paper-mnist", **sections)


def effect_settings(data: str, folders: DataFolders, scale: Scale, seed: int, reservoir: bool) -> Config:
    """Return the settings of a run of Table 5, without its limit of time: the paper's network as Table 2 has it.

    Parameters
    ----------
    data, folders, scale
        As of `comparison_settings`.
    seed : int
    reservoir : bool
        Whether the network has a reservoir.
    """
    epochs = scale.effect_epochs
    return load_config(
        f"paper-{data}",
        data=_data(data, folders, scale),
        run={"seed": seed},
        search={"generations": 0},
        reservoir={} if reservoir else {"kind": "none"},
        extractor={"channels": list(scale.channels)} if data == "cifar10" else {},
        training={"epochs": epochs, "patience": epochs, "loss_target": 0.0, "gradient_norms": True, "baseline": False},
    )


def image_source(folders: DataFolders) -> DataSection:
    """Return the source of the small images of Table 6."""
    return DataSection(source="cifar10", path=str(folders.cifar10))


def table2_settings(data: str, folders: DataFolders, scale: Scale, seed: int) -> Config:
    """Return the settings of the run with the values of Table 2 and no search, for Fig. 3."""
    sections = _sections(data, folders, scale, {}, {"generations": 0})
    sections["run"] = {"seed": seed}
    return load_config(f"paper-{data}", **sections)


def _sections(
    data: str, folders: DataFolders, scale: Scale, compare: dict[str, Any], search: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the sections that differ from the profile, for methods that read rows of pixels."""
    rows = {"train_rows": scale.candidate_rows, "validation_rows": scale.judging_rows}
    return {
        "data": _data(data, folders, scale),
        "compare": {"methods": list(scale.methods), **compare},
        "search": {"evaluation": "train", "epochs": scale.candidate_epochs, **rows, **search},
        "extractor": {"kind": "none", "channels": list(scale.channels)},
        "training": {"epochs": scale.epochs, "patience": scale.epochs},
    }


def _data(data: str, folders: DataFolders, scale: Scale) -> dict[str, Any]:
    path = str(folders.of(data))
    if data == "mnist":
        return {"path": path, "max_samples": scale.mnist_samples}
    counts = load_config("paper-cifar10").data.class_keep_counts
    return {
        "path": path,
        "max_samples": scale.cifar10_samples,
        "class_keep_counts": [round(scale.cifar10_share * count) for count in counts],
    }

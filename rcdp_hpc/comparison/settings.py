"""The settings of a comparison, of its data and of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcdp_hpc.comparison.plan import PlannedCell
from rcdp_hpc.config import (
    CompareSection,
    Config,
    DataFacts,
    flatten,
    may_change,
    to_tree,
    with_settings,
)
from rcdp_hpc.config.apply_defaults import completed_quietly
from rcdp_hpc.config.choices import METHODS, method_choice
from rcdp_hpc.config.keys import marked_keys
from rcdp_hpc.errors import InputError

# Keys that say how a comparison is computed, and change none of its results. All others are part of it: also those that
# a single run may change when it is resumed, such as training.epochs.
FREE = (
    "run.stall_seconds",
    "run.progress",
    "compare.group_ranks",
    "search.group_ranks",
    "search.candidate_memory",
    "states.memory_mib",
    "states.disk_mib",
    "training.tensorboard",
    "parallel.horovod",
    "checkpoint",
)
# Threads of a training if training.threads is 0. Those of a single run depend on machine and ranks, and with them the
# last digits of its results; in a comparison, cells run next to each other.
CELL_THREADS = 1
# The paper's search (`rcdp compare --full`).
FULL = {"search.population": 50, "search.generations": 100}
# Candidates of a search whose file says nothing about them; kinds of data without a search of their own have none.
DEFAULT_SEARCH = {"search.population": 8, "search.generations": 5}


def with_full_search(config: Config) -> Config:
    """Return the settings with the population and the generations of the paper."""
    return with_settings(config, FULL, "with --full")


def with_search(config: Config) -> Config:
    """Return the settings with the candidates that every method evaluates.

    Raises
    ------
    InputError
        If the settings ask for no candidate, or for single folds of the data.
    """
    if config.data.folds or config.data.fold:
        raise InputError(
            f"data.folds = {config.data.folds}: a comparison sets the folds itself: --set compare.folds="
            f"{config.data.folds or 5} instead of data.folds."
        )
    if config.chosen is not None:
        changes = {key: value for key, value in DEFAULT_SEARCH.items() if key not in config.chosen}
        config = with_settings(config, changes, "with the candidates of a comparison") if changes else config
    methods = config.compare.methods or METHODS.names
    if not config.search.generations and any(method_choice(name).searches for name in methods):
        raise InputError(
            "search.generations = 0: the methods of a comparison evaluate search.population x search.generations "
            "candidates each. Set search.generations to 1 or more."
        )
    return config


def recorded_settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide the results of a comparison, by section."""
    tree = to_tree(config)
    return {
        section: kept
        for section, keys in tree.items()
        if (kept := {name: value for name, value in keys.items() if not _is_free(section, name)})
    }


def adds_seeds(recorded: dict[str, Any], config: Config) -> bool:
    """Return whether the settings repeat a comparison that was begun with the recorded ones with further seeds.

    The seeds so far come first: they keep their cells, and the first one decides what a single run has.
    """
    if config.compare.folds or recorded["compare"]["folds"]:
        return False
    old, new = recorded["compare"]["seeds"] or [recorded["run"]["seed"]], config.compare.seeds
    return len(new) > len(old) and new[: len(old)] == old


def refuse_other_comparison(where: Path, recorded: dict[str, Any], config: Config, further_seeds: bool = False) -> None:
    """Raise an `InputError` that names the keys if a comparison was begun with other settings.

    Parameters
    ----------
    where : Path
        Folder of the comparison, for the message.
    recorded : dict
        As `recorded_settings` returned them.
    config : Config
    further_seeds : bool
        Whether seeds may be added (`adds_seeds`).
    """
    old, new = flatten(recorded), flatten(recorded_settings(config))
    if further_seeds and adds_seeds(recorded, config):
        old["compare.seeds"] = new["compare.seeds"]
    changed = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if not changed:
        return
    changes = ", ".join(f"{key} ({old.get(key, 'not set')} -> {new.get(key, 'not set')})" for key in changed)
    raise InputError(
        f"{where}: the comparison was begun with other settings: {changes}. Set them back, choose another --out, or "
        "start over with --restart, which puts the earlier results aside."
    )


def _is_free(section: str, name: str) -> bool:
    key = f"{section}.{name}"
    return key in FREE or section in FREE or (section == "data" and may_change(key))


def config_of_data(config: Config, seed: int, fold: int) -> Config:
    """Return the settings of the preparation for one repetition. No stage searches with them."""
    changes: dict[str, Any] = {"run.seed": seed, "search.generations": 0, "search.method": "optimizer"}
    if fold:
        changes |= {"data.folds": config.compare.folds, "data.fold": fold}
    return _single(with_settings(config, changes, f"of the data with seed {seed}"))


def config_of_cell(
    config: Config, cell: PlannedCell, facts: DataFacts, prepared: dict[str, Any] | None, model: Path | None = None
) -> Config:
    """Return the settings of the comparison with those of one cell.

    Parameters
    ----------
    config : Config
    cell : PlannedCell
    facts : DataFacts
    prepared : dict or None
        The settings that prepared the shards, as index.json records them; None if there are none yet. What a method
        sets decides defaults of the kind of data, which must not change those of [data].
    model : Path, optional
        The trained extractor of the arm "extractor".
    """
    changes: dict[str, Any] = {"run.seed": cell.seed, "training.threads": config.training.threads or CELL_THREADS}
    if cell.fold:
        changes |= {"data.folds": config.compare.folds, "data.fold": cell.fold}
    data = completed_quietly(config, facts) if prepared is None else None
    tree = to_tree(data)["data"] if data is not None else prepared["data"] if prepared is not None else {}
    own = {*marked_keys("path"), "data.seed", "data.folds", "data.fold"}
    changes |= {key: value for name, value in tree.items() if (key := f"data.{name}") not in own}
    if model is not None:
        changes |= {"extractor.kind": "pretrained", "extractor.model": str(model)}
    return _single(with_settings(config, changes, f"of the cell {cell.name}"))


def config_of_extractor(config: Config, cell: PlannedCell, facts: DataFacts, prepared: dict[str, Any]) -> Config:
    """Return the settings of the training of the extractor that all methods of the arm "extractor" read."""
    own = config_of_cell(config, cell, facts, prepared)
    changes = {
        "extractor.kind": "convolution",
        "reservoir.kind": "none",
        "readout.kind": "network",
        "search.generations": 0,
        "search.method": "optimizer",
        "training.baseline": False,
        "readout.warm_start": False,
    }
    return with_settings(own, changes, "of the extractor")


def _single(config: Config) -> Config:
    """Return the settings of a run, which is no comparison."""
    return config.model_copy(update={"compare": CompareSection()}).with_chosen(config.chosen)

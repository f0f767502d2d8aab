"""Which settings a search's answer depends on."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.config import Config, to_tree
from rcdp_hpc.search.space import searched_space

FORMAT = 1
# What the short training of a candidate reads: whole sections, and single keys of others.
TRAINING_KEYS = ("readout", "loss", "optimizer", "partition.count", "training.batch", "training.precision")
# What a solved readout reads.
RIDGE_KEYS = ("readout.ridge_penalties", "readout.ridge_selection", "augment.shifts", "loss.class_weights")


def search_settings(config: Config, fingerprint: str) -> dict[str, Any]:
    """Return the settings that a search's answer depends on, as nested dicts.

    The configured value of a searched key is not among them: candidates replace it.

    Parameters
    ----------
    config : Config
    fingerprint : str
        Of the rows that candidates are fitted to and judged by.
    """
    tree = to_tree(config)
    searched = searched_space(config.search).names
    settings: dict[str, Any] = {
        "run": {"seed": tree["run"]["seed"]},
        "data": tree["data"],
        "reservoir": {key: value for key, value in tree["reservoir"].items() if key not in searched},
        "search": tree["search"],
        "shards": {"fingerprint": fingerprint},
        "checkpoint": {"format": FORMAT},
    }
    keys = {"train": TRAINING_KEYS, "ridge": RIDGE_KEYS}.get(config.search.evaluation)
    for key in keys or ():
        section, _, name = key.partition(".")
        names = (name,) if name else tree[section]
        values = {one: tree[section][one] for one in names if one not in searched}
        settings[section] = {**settings.get(section, {}), **values}
    return settings

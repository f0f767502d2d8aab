"""Which settings a search's answer depends on."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.config import Config, to_tree
from rcdp_hpc.search.space import searched_space

FORMAT = 1
# Of [training], what the short training of a candidate looks at.
TRAINING_KEYS = (
    "readout", "readout_layers", "heads", "span", "outputs", "hidden", "relu_slope", "dropout",
    "loss", "focal_gamma", "label_smoothing", "class_weights", "l1", "l2",
    "batch", "slabs", "optimizer", "momentum", "nesterov", "learning_rate", "clip_norm", "weight_decay", "precision",
)  # fmt: skip
# Of [training], what a solved readout looks at.
RIDGE_KEYS = ("ridge_penalties", "ridge_selection", "shifts", "class_weights")


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
    if keys is not None:
        settings["training"] = {key: tree["training"][key] for key in keys if key not in searched}
    return settings

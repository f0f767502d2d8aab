"""Which settings a search's answer depends on, and whether a checkpoint belongs to them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcdp_hpc.config import Config, differing_keys, flatten, may_change, to_tree
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.space import searched_space

FORMAT = 1
# Of [training], what the short training of a candidate looks at.
TRAINING_KEYS = (
    "loss", "batch", "learning_rate", "weight_decay", "outputs", "hidden", "relu_slope", "dropout", "slabs",
)  # fmt: skip


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
    if config.search.evaluation == "train":
        settings["training"] = {key: tree["training"][key] for key in TRAINING_KEYS if key not in searched}
    return settings


def check_settings(folder: Path, recorded: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """See that a checkpoint's settings are the current ones, but for keys that may change.

    Raises
    ------
    InputError
        If others differ; the message lists them with both values.
    """
    differing = differing_keys(recorded, current)
    fixed = [key for key in differing if not may_change(key)]
    if not fixed:
        return
    old, new = flatten(recorded), flatten(current)
    changes = ", ".join(f"{key} ({_text(old, key)} -> {_text(new, key)})" for key in fixed)
    free = [key for key in differing if may_change(key)]
    also = f" {', '.join(free)} differ as well and may." if free else ""
    raise InputError(
        f"{folder}: the search here was begun with other settings: {changes}. They may not change when it is "
        f"resumed.{also} Set them back, choose another --out, or remove {folder} to search anew."
    )


def _text(flat: Mapping[str, Any], key: str) -> str:
    return str(flat[key]) if key in flat else "not set"

"""The settings that the result of a search depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

from rcdp_hpc.config import DIMENSION_KEYS, Config, flatten, to_tree
from rcdp_hpc.config.choices import is_user_class
from rcdp_hpc.runtime.code_consent import found_digests
from rcdp_hpc.search.density_term import has_density_term
from rcdp_hpc.search.effective import reads_extractor
from rcdp_hpc.search.space import searched_space

# Settings as nested dicts that JSON can hold, by section.
Settings = dict[str, Any]
FORMAT = 2
# What the short training of a candidate reads: whole sections, and single keys of others.
TRAINING_KEYS = ("readout", "loss", "optimizer", "partition.count", "training.batch", "training.precision")
# What versions did that had no such key; the default is now a choice that a stage replaces by a value.
BEFORE_CHOICES = {"search.candidates_at_once": 1, "search.device": "cpu"}
# What a solved readout reads.
RIDGE_KEYS = (
    "readout.ridge_penalties",
    "readout.ridge_selection",
    "readout.ridge_criterion",
    "augment.shifts",
    "loss.class_weights",
    "loss.effective_beta",
)


def search_settings(config: Config, fingerprint: str, searched: Sequence[str] | None = None) -> Settings:
    """Return the settings that the result of a search depends on.

    The configured values of searched keys are not included: candidates replace them. The digests of the user's modules
    that these settings name are included.

    Parameters
    ----------
    config : Config
    fingerprint : str
        Digest of the data of the fitness.
    searched : sequence of str, optional
        Names of the searched values; default: those of ``[search.space]``.
    """
    tree = to_tree(config)
    names = searched_space(config.search).names if searched is None else searched
    # A dimension and a key of another section may have the same name, as `layers`. Names of `minimize` have no key.
    replaced = {DIMENSION_KEYS[name] for name in names if name in DIMENSION_KEYS}
    settings: Settings = {
        "run": {"seed": tree["run"]["seed"]},
        "reservoir": _without(tree, "reservoir", replaced),
        "search": {**tree["search"], **_choices_made(config)},
        "extractor": tree["extractor"] if reads_extractor(config) else {"kind": "none"},
    }
    keys = {"train": TRAINING_KEYS, "ridge": RIDGE_KEYS}.get(config.search.evaluation)
    for key in keys or ():
        section, _, name = key.partition(".")
        values = _without(tree, section, replaced)
        if name:
            values = {one: value for one, value in values.items() if one == name}
        settings[section] = {**settings.get(section, {}), **values}
    return {
        **settings,
        "data": tree["data"],
        "shards": {"fingerprint": fingerprint},
        "code": _code_digests(settings),
        "checkpoint": {"format": FORMAT} | ({"density_term": "relative"} if has_density_term(config) else {}),
    }


def _choices_made(config: Config) -> Settings:
    """Return what choices amount to that no stage has replaced: one candidate at a time, and the CPU for functions."""
    search = config.search
    chosen: Settings = {"candidates_at_once": max(1, search.candidates_at_once)}
    if search.evaluation == "function" and search.device == "auto":
        chosen["device"] = "cpu"
    return chosen


def _without(tree: Mapping[str, Any], section: str, keys: Set[str]) -> Settings:
    """Return the values of a section without those of some dotted keys."""
    return {key: value for key, value in tree[section].items() if f"{section}.{key}" not in keys}


def _code_digests(settings: Settings) -> dict[str, str]:
    """Return the SHA-256 of each module of the user that settings name as ``module:name``, by module."""
    values = [one for value in flatten(settings).values() for one in (value if isinstance(value, list) else [value])]
    names = {one for one in values if isinstance(one, str) and is_user_class(one) and not one.startswith("rcdp_hpc.")}
    return found_digests(sorted(names))


def with_missing_defaults(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> Settings:
    """Return recorded settings as dotted keys, with the default of each key that `current` has and they lack.

    A checkpoint of an earlier version lacks the keys that the configuration did not have then.
    """
    settings = flatten(recorded)
    defaults = {**flatten(to_tree(Config())), **BEFORE_CHOICES}
    missing = [key for key in flatten(current) if key not in settings and key in defaults]
    return {**settings, **{key: defaults[key] for key in missing}}

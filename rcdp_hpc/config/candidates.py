"""The smallest and the largest candidate of a search space, for checks and estimates that precede the search."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, TypeVar

from rcdp_hpc.config.root import Config
from rcdp_hpc.config.search import DIMENSION_KEYS
from rcdp_hpc.errors import InputError

T = TypeVar("T")

# The dimensions that decide about the size of a candidate, and so about its memory and time.
ARCHITECTURE = ("nodes", "layers", "states", "hidden", "readout_layers", "outputs", "batch")
SIZES = ("density", *ARCHITECTURE)


def searches_sizes(config: Config) -> bool:
    """Return whether the network of one candidate may be larger than that of another."""
    return _searches(config) and any(getattr(config.search.space, name) is not None for name in ARCHITECTURE)


def largest_candidate(config: Config) -> Config:
    """Return the configuration with the largest value of each searched size; unchanged without a search.

    It bounds the work and the memory of every candidate, and of the training of the winner.
    """
    return _with_sizes(config, largest=True)


def smallest_candidate(config: Config) -> Config:
    """Return the configuration with the smallest value of each searched size; unchanged without a search."""
    return _with_sizes(config, largest=False)


def extreme_candidates(config: Config) -> list[tuple[str, Config]]:
    """Return the configurations whose checks hold for every candidate, each with its name for messages.

    Without a searched size this is the configuration itself, with an empty name.
    """
    extremes = (("largest", largest_candidate(config)), ("smallest", smallest_candidate(config)))
    changed = [(f"the {name} candidate of [search.space]", one) for name, one in extremes if one is not config]
    return changed or [("", config)]


def check_candidates(config: Config, check: Callable[[Config], T]) -> T:
    """Check the largest and the smallest candidate and return the answer for the largest.

    Parameters
    ----------
    config : Config
    check : callable
        Gets the configuration of a candidate, and raises an `InputError` if it is not accepted.

    Raises
    ------
    InputError
        That of the check, with the name of the candidate.
    """
    answers = []
    for name, candidate in extreme_candidates(config):
        try:
            answers.append(check(candidate))
        except InputError as error:
            raise InputError(f"{name}: {_with_dimensions(str(error), config)}" if name else str(error)) from None
    return answers[0]


def _with_dimensions(message: str, config: Config) -> str:
    """Return a message with the dimensions that set the keys it names, which are what the user has to change."""
    given = [name for name in SIZES if getattr(config.search.space, name) is not None]
    named = [f"search.space.{name}" for name in given if re.search(rf"{re.escape(DIMENSION_KEYS[name])}\b", message)]
    return f"{message.rstrip('.')} (in a search: change {', '.join(named)})" if named else message


def _searches(config: Config) -> bool:
    # A selection without generations evaluates state sets, which have no size.
    return config.has_search and config.search.generations > 0


def _with_sizes(config: Config, largest: bool) -> Config:
    if not _searches(config):
        return config
    changes: dict[str, dict[str, Any]] = {}
    for name in SIZES:
        bounds = getattr(config.search.space, name)
        value = None if bounds is None else (bounds.largest if largest else bounds.smallest)
        if value is None:
            continue
        section, _, key = DIMENSION_KEYS[name].partition(".")
        if isinstance(getattr(getattr(config, section), key), int):
            value = math.floor(value) if largest else math.ceil(value)
        changes.setdefault(section, {})[key] = value
    if not changes:
        return config
    sections = {section: getattr(config, section).model_copy(update=update) for section, update in changes.items()}
    return config.model_copy(update=sections)

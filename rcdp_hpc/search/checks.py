"""Whether settings of the search fit one another and the data. Needs no torch: preparation asks before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rcdp_hpc.config import Config, RangeSection, ReservoirSection, SpaceSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.evaluation.matrix_cache import is_plain
from rcdp_hpc.search.space import Space, searched_space
from rcdp_hpc.search.state_sets import STATE_SETS

# What a selection alone searches: stands for the sets of the kind of data, which is not known yet.
SELECTED = SpaceSection(state_set=RangeSection(choices=list(STATE_SETS)))
LARGEST_LEAK_LOW = max(found.settings.get("leak_low", 0.0) for found in STATE_SETS.values())
NOT_FOR_FUNCTIONS: dict[str, list[Any]] = {"candidates_at_once": [1], "group_ranks": [0, 1], "device": ["cpu"]}
CLEANING = ("smote_tomek", "smote_enn")


def checked_space(config: Config, ranks: int | None = None) -> Space:
    """Return the space of the search, or raise an `InputError` if settings of ``[search]`` contradict one another.

    Parameters
    ----------
    config : Config
    ranks : int, optional
        Ranks that search; None if not known yet.
    """
    search = config.search
    if search.generations == 0 and search.method != "select":
        raise InputError("search.generations = 0: there is nothing to search; raise it, or leave the search out")
    for key, plain in NOT_FOR_FUNCTIONS.items():
        value = getattr(search, key)
        if search.evaluation == "function" and value not in plain:
            raise InputError(
                f"search.{key} = {value!r} has no meaning for search.evaluation = 'function', which one rank calls for "
                f"one candidate: set it to {plain[-1]!r}"
            )
    if ranks is not None and search.group_ranks > ranks:
        raise InputError(
            f"search.group_ranks = {search.group_ranks} is more than the {ranks} ranks of this job: lower it, set "
            "it to 0 to have it chosen, or start more ranks"
        )
    if (search.evaluation == "function") != bool(search.function):
        raise InputError(
            f"search.evaluation = {search.evaluation!r} and search.function = {search.function!r} contradict each "
            "other: a function of your own needs both evaluation = 'function' and function = 'module:function'"
        )
    if search.halving > 1 and search.folds > 1:
        raise InputError(
            f"search.halving = {search.halving} and search.folds = {search.folds} contradict each other: a part of a "
            "fold's rows has no class proportions of its own to rely on; set one of them to 1"
        )
    if search.improvements and search.optimizer != "mfo":
        raise InputError(
            f"search.improvements = {search.improvements} belong to search.optimizer = 'mfo', not {search.optimizer!r}"
            ": take one of the two out"
        )
    if search.method == "select":
        _check_selection(config)
        if not search.generations:
            return searched_space(search.model_copy(update={"space": SELECTED}))
    space = searched_space(search)
    if search.evaluation != "function":
        _check_reservoirs(config.reservoir, space)
    return space


def _check_reservoirs(reservoir: ReservoirSection, space: Space) -> None:
    """Raise an `InputError` if values of the space contradict settings of the reservoir."""
    for dimension in space.dimensions:
        lowest = min(dimension.choices, default=dimension.low) if dimension.name == "leak" else 1.0
        if isinstance(lowest, float | int) and lowest < reservoir.leak_low:
            raise InputError(
                f"search.space.leak goes down to {lowest:g}, below reservoir.leak_low = {reservoir.leak_low:g}: the "
                "search varies the highest leak rate; raise the bound, or lower reservoir.leak_low"
            )
        if dimension.name == "activation" and "sigmoid" in dimension.choices and "positive" in reservoir.reduction:
            raise InputError(
                "search.space.activation has the choice 'sigmoid', whose states are all above 0, and "
                "reservoir.reduction has 'positive': take one of the two out"
            )


def _check_selection(config: Config) -> None:
    """Raise an `InputError` if state sets cannot be judged with these settings."""
    search = config.search
    reasons = {
        "search.evaluation = 'function' judges candidates by your own function": search.evaluation == "function",
        "reservoir.matrices are your own": bool(config.reservoir.matrices),
        "search.space has the dimension state_set": search.space.state_set is not None,
    }
    for reason, given in reasons.items():
        if given:
            raise InputError(
                f"search.method = 'select' judges sets of reservoir settings, but {reason}: set search.method = "
                "'optimizer', or take the other out"
            )
    if search.generations and search.space.leak is not None:
        # The optimiser starts from any of the sets.
        _check_reservoirs(config.reservoir.model_copy(update={"leak_low": LARGEST_LEAK_LOW}), searched_space(search))


def check_folds(config: Config) -> None:
    """Raise an `InputError` if the folds of the fitness cannot be balanced each by itself."""
    folds, data = config.search.folds, config.data
    if folds == 1:
        return
    if data.balance in CLEANING:
        raise InputError(
            f"search.folds = {folds}: data.balance = {data.balance!r} has cleaned the rows before they are cut into "
            "folds, so that those held out would be easier than others; set search.folds = 1, or data.balance = 'smote'"
        )
    if data.balance_counts:
        raise InputError(
            f"search.folds = {folds}: data.balance_counts are numbers of the whole training part and cannot be those "
            "of a fold's; set data.balance_ratio instead, or search.folds = 1"
        )


def check_batched(config: Config, unequal: bool) -> None:
    """Raise an `InputError` if candidates cannot be evaluated at once, with the reason.

    Parameters
    ----------
    config : Config
    unequal : bool
        Whether the samples are sequences of unequal length.
    """
    search, reservoir = config.search, config.reservoir
    if search.candidates_at_once == 1:
        return
    reasons = {
        "search.evaluation is not 'ridge'": search.evaluation != "ridge",
        "search.candidate_seconds is set, and what one candidate takes cannot be told from the others": bool(
            search.candidate_seconds
        ),
        "search.group_ranks divides each candidate": search.group_ranks > 1,
        "the reservoir has noise, layers, scans or other than the plain matrices": bool(
            reservoir.noise or not is_plain(reservoir)
        ),
        "the samples are sequences of unequal length": unequal,
    }
    for reason, given in reasons.items():
        if given:
            raise InputError(f"search.candidates_at_once = {search.candidates_at_once}, but {reason}: set it to 1")


def check_rows(config: Config, classes: Sequence[str], counts: Sequence[int]) -> None:
    """Raise an `InputError` if the rows of the fitness are too few for the classes or the folds.

    Parameters
    ----------
    config : Config
    classes : sequence of str
        Names of the classes.
    counts : sequence of int
        Training samples of each class.
    """
    search = config.search
    if search.evaluation == "function":
        return
    for key in ("train_rows", "validation_rows"):
        if getattr(search, key) < len(classes):
            raise InputError(
                f"search.{key} = {getattr(search, key)} is fewer than the {len(classes)} classes, so that candidates "
                f"would never meet some of them: set search.{key} = {10 * len(classes)} or more"
            )
    if sum(counts) < search.folds:
        raise InputError(
            f"search.folds = {search.folds}: there are {sum(counts)} training samples; set search.folds to at most "
            f"{sum(counts)}"
        )

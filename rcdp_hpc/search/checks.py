"""Checks of the settings of the search, by themselves and against the data; they need no torch."""

from __future__ import annotations

from collections.abc import Sequence

from rcdp_hpc.config import Config, RangeSection, ReservoirSection, SpaceSection, check_candidates
from rcdp_hpc.config.choices.activations import is_positive
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.reservoir.connection import check_feature_scaling
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.search.effective import evaluated_config, reads_extractor, with_effective_space
from rcdp_hpc.search.optimizers.contract import check_optimizer
from rcdp_hpc.search.space import STATE_SET, Space, searched_space
from rcdp_hpc.search.state_sets import STATE_SETS
from rcdp_hpc.training.criterion_checks import check_class

# The space of a selection: all state sets, since the kind of data is not known yet.
SELECTION_SPACE = SpaceSection(state_set=RangeSection(choices=list(STATE_SETS)))
LARGEST_LEAK_LOW = max(state_set.settings.get("leak_low", 0.0) for state_set in STATE_SETS.values())


def checked_space(config: Config, ranks: int | None = None) -> Space:
    """Return the space of the search, after checks of space, optimiser, reservoir and ranks.

    Dimensions without an effect are left out (`with_effective_space`).

    Parameters
    ----------
    config : Config
    ranks : int, optional
        Ranks that search; None if not known yet.

    Raises
    ------
    InputError
        If settings contradict each other, or the optimiser breaks its contract (`check_optimizer`).
    """
    config = with_effective_space(config)
    search = config.search
    if search.generations == 0 and search.method != "select":
        raise InputError("search.generations = 0: there is nothing to search; raise it, or skip the search")
    if ranks is not None and search.group_ranks > ranks:
        raise InputError(
            f"search.group_ranks = {search.group_ranks} is more than the {ranks} ranks of this job: lower it, set "
            "it to 0 (automatic), or start more ranks"
        )
    if search.method == "select":
        _check_selection(config)
        if not search.generations:
            return searched_space(search.model_copy(update={"space": SELECTION_SPACE}))
    space = searched_space(search)
    if search.evaluation != "function" and config.reservoir.kind != "none":
        _check_reservoirs(config.reservoir, space)
    check_optimizer(search, (space.lower, space.upper), config.run.seed, space.start(config))
    return space


def _check_reservoirs(reservoir: ReservoirSection, space: Space) -> None:
    """Raise an `InputError` if values of the space contradict settings of the reservoir."""
    chosen = [
        STATE_SETS[str(name)].settings for one in space.dimensions if one.name == STATE_SET for name in one.choices
    ]
    leak_low = max([reservoir.leak_low, *(one.get("leak_low", 0.0) for one in chosen)])
    for dimension in space.dimensions:
        lowest = min(dimension.choices, default=dimension.low) if dimension.name == "leak" else 1.0
        if isinstance(lowest, float | int) and lowest < leak_low:
            owner = "reservoir.leak_low" if leak_low == reservoir.leak_low else "the leak_low of a state set"
            raise InputError(
                f"search.space.leak goes down to {lowest:g}, below {owner} = {leak_low:g}: the search varies the "
                "highest leak rate; raise the bound, or lower leak_low"
            )
        if dimension.name == STATE_SET and "states" in space.names:
            check_sets_keep_states([str(choice) for choice in dimension.choices])
    _check_positive(reservoir, space)


def _check_positive(reservoir: ReservoirSection, space: Space) -> None:
    """Refuse the reduction "positive", of the configuration or a state set, with states that are all above 0."""
    choices = {dimension.name: dimension.choices for dimension in space.dimensions}
    where, activations = "search.space.activation has the choice", choices.get("activation") or ()
    if not activations:
        where, activations = "reservoir.activation is", (reservoir.activation,)
    positive = next((choice for choice in activations if is_positive(choice)), None)
    if positive is None:
        return
    reductions = {"reservoir.reduction": reservoir.reduction}
    if STATE_SET in choices:
        sets = {str(name): STATE_SETS[str(name)].settings for name in choices[STATE_SET]}
        reductions = {
            f"the state set {name!r}": one.get("reduction", reservoir.reduction) for name, one in sets.items()
        }
    for name, reduction in reductions.items():
        if "positive" in reduction:
            raise InputError(
                f"{where} {positive!r}, whose states are all above 0, and {name} has 'positive': remove one of the two"
            )


def check_sets_keep_states(names: Sequence[str]) -> None:
    """Raise an `InputError` if a state set of a list has a reduction that ``search.space.states`` does not change."""
    for name in names:
        reduction = STATE_SETS[name].settings.get("reduction")
        if reduction is not None and "states" not in reduction:
            raise InputError(
                f"search.space.states has no effect with the state set {name!r}, whose reduction is {reduction}: "
                "remove one of the two"
            )


def _check_selection(config: Config) -> None:
    """Raise an `InputError` if the optimiser cannot start from every state set."""
    search = config.search
    if search.generations and search.space.leak is not None:
        _check_reservoirs(config.reservoir.model_copy(update={"leak_low": LARGEST_LEAK_LOW}), searched_space(search))


def check_lengths(config: Config, unequal: bool) -> None:
    """Raise an `InputError` if several candidates are evaluated at once on series of unequal length."""
    if unequal and config.search.candidates_at_once > 1:
        raise InputError(
            f"search.candidates_at_once = {config.search.candidates_at_once} needs series of equal length, and these "
            "are of unequal length: set it to 1"
        )


def check_candidate_shape(config: Config, sample_shape: Sequence[int], shortest: int | None) -> None:
    """Raise an `InputError` if the largest or the smallest candidate cannot read samples of this shape.

    Without a fixed extractor they read the samples themselves, also if the extractor is trained after the search.

    Parameters
    ----------
    config : Config
    sample_shape : sequence of int
        Shape of one sample.
    shortest : int or None
        Steps of the shortest sample; None if all samples have the same number of steps.
    """
    if config.search.evaluation != "function":
        check_candidates(config, lambda one: _check_shape(one, sample_shape, shortest))


def _check_shape(config: Config, sample_shape: Sequence[int], shortest: int | None) -> None:
    read = config if reads_extractor(config) else evaluated_config(config)
    try:
        shape = extractor_of(read, sample_shape).checked_shape(shortest)
        if shape is not None and config.reservoir.kind != "none":
            check_feature_scaling(config.reservoir, input_features(config.reservoir, shape[1]))
    except InputError as error:
        if not config.extractor.trained:
            raise
        raise InputError(
            f"the search evaluates reservoirs that read the samples themselves, because extractor.kind = "
            f"{config.extractor.kind!r} is trained after it: {error}"
        ) from None


def check_fitness(config: Config, classes: Sequence[str]) -> None:
    """Raise an `InputError` if ``search.fitness`` is the recall of a class that does not exist."""
    if config.search.evaluation != "function":
        check_class("search.fitness", config.search.fitness, classes)


def check_rows(config: Config, classes: Sequence[str], counts: Sequence[int]) -> None:
    """Raise an `InputError` if the fitness has too few rows for the classes or the folds.

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
                f"would never see some of them: set search.{key} = {10 * len(classes)} or more"
            )
    if sum(counts) < search.folds:
        raise InputError(
            f"search.folds = {search.folds}: there are {sum(counts)} training samples; set search.folds to at most "
            f"{sum(counts)}"
        )

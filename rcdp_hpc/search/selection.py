"""Selection before search: each state set of a list is evaluated once, by the search loop."""

from __future__ import annotations

from rcdp_hpc.config import Config, RangeSection, SpaceSection
from rcdp_hpc.config.choices.activations import is_positive
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.checks import check_sets_keep_states
from rcdp_hpc.search.state_sets import STATE_SETS, sets_for

GRID = "rcdp_hpc.search.optimizers.grid:Grid"


def selection_config(config: Config, kind: str) -> Config:
    """Return the configuration of a search that evaluates every state set once.

    Parameters
    ----------
    config : Config
    kind : {"table", "series", "images"}
        Kind of data.

    Raises
    ------
    InputError
        As `sets_for`, or if all states of the activation are positive and a set has the reduction "positive".
    """
    names = sets_for(kind, config.search.state_sets)
    signs = any("positive" in STATE_SETS[name].settings.get("reduction", ()) for name in names)
    if signs and is_positive(config.reservoir.activation):
        raise InputError(
            "search.method = 'select' evaluates sets with the reduction 'positive', and all states of "
            f"reservoir.activation = {config.reservoir.activation!r} are above 0: choose another activation, or list "
            "other sets in search.state_sets"
        )
    if config.search.generations and config.search.space.states is not None:
        check_sets_keep_states(names)
    changes = {
        "method": "optimizer",
        "optimizer": GRID,
        "population": len(names),
        "generations": 1,
        "improvements": [],
        "halving": 1,
        "candidates_at_once": 1,
        "stop_stagnation": 0,
        "space": SpaceSection(state_set=RangeSection(choices=list(names))),
    }
    return config.model_copy(update={"search": config.search.model_copy(update=changes)})

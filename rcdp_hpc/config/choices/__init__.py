"""What each value of each choice means and, if code implements it, which code: one table for each kind of choice.

From the tables follow what the configuration accepts, the comments of ``rcdp config``, the reference page and the
completion. They are readable without torch: a choice names its class, `rcdp_hpc.runtime.user_code.load_choice` imports
it.
"""

from __future__ import annotations

from collections.abc import Mapping

from rcdp_hpc.config.choices.activations import ACTIVATIONS, READOUT_ACTIVATIONS
from rcdp_hpc.config.choices.balancing import BALANCING_METHODS, BalancingChoice, balancing_choice
from rcdp_hpc.config.choices.choice import USER_CLASS, Choice, ChoiceTable, is_user_class
from rcdp_hpc.config.choices.chosen_by import FITNESSES, RIDGE_CRITERIA, TRAINING_CRITERIA
from rcdp_hpc.config.choices.engines import ENGINES
from rcdp_hpc.config.choices.extractors import (
    EXTRACTORS,
    MODEL_EXTRACTORS,
    UNREAD_MODEL,
    ExtractorChoice,
    extractor_choice,
)
from rcdp_hpc.config.choices.kernels import KERNELS
from rcdp_hpc.config.choices.losses import LOSSES
from rcdp_hpc.config.choices.methods import METHODS, MethodChoice, method_choice
from rcdp_hpc.config.choices.optimizers import OPTIMIZERS
from rcdp_hpc.config.choices.plain import PLAIN_TABLES
from rcdp_hpc.config.choices.readouts import READOUTS, ReadoutChoice, readout_choice
from rcdp_hpc.config.choices.schedules import SCHEDULES
from rcdp_hpc.config.choices.search_optimizers import MOTH_FLAME_IMPROVEMENTS, SEARCH_OPTIMIZERS
from rcdp_hpc.config.choices.sources import ARRAYS, SOURCES

TABLES: Mapping[str, ChoiceTable] = {
    table.key: table
    for table in (
        SOURCES,
        BALANCING_METHODS,
        ACTIVATIONS,
        KERNELS,
        SEARCH_OPTIMIZERS,
        MOTH_FLAME_IMPROVEMENTS,
        READOUTS,
        READOUT_ACTIVATIONS,
        EXTRACTORS,
        MODEL_EXTRACTORS,
        OPTIMIZERS,
        LOSSES,
        SCHEDULES,
        ENGINES,
        METHODS,
        FITNESSES,
        RIDGE_CRITERIA,
        TRAINING_CRITERIA,
        *PLAIN_TABLES,
    )
}

__all__ = [
    "ACTIVATIONS",
    "ARRAYS",
    "BALANCING_METHODS",
    "ENGINES",
    "EXTRACTORS",
    "FITNESSES",
    "KERNELS",
    "LOSSES",
    "METHODS",
    "MODEL_EXTRACTORS",
    "MOTH_FLAME_IMPROVEMENTS",
    "OPTIMIZERS",
    "READOUTS",
    "READOUT_ACTIVATIONS",
    "RIDGE_CRITERIA",
    "SCHEDULES",
    "SEARCH_OPTIMIZERS",
    "SOURCES",
    "TABLES",
    "TRAINING_CRITERIA",
    "UNREAD_MODEL",
    "USER_CLASS",
    "BalancingChoice",
    "Choice",
    "ChoiceTable",
    "ExtractorChoice",
    "MethodChoice",
    "ReadoutChoice",
    "balancing_choice",
    "choices_of",
    "extractor_choice",
    "is_user_class",
    "method_choice",
    "readout_choice",
]


def choices_of(key: str) -> Mapping[str | int, str]:
    """Return the accepted values of a dotted key and their meanings; empty if the key is not a choice."""
    return TABLES[key].meanings() if key in TABLES else {}

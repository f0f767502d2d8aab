"""Settings that methods have in common: their spaces, the input without a reservoir, defaults for the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rcdp_hpc.config import Config, DataFacts
from rcdp_hpc.config.apply_defaults import completed_quietly, with_settings
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.sequencing import Sequencer

# How [reservoir] cuts and scales a sample. The methods without a reservoir read the same sequences.
INPUT_KEYS = (
    "sequence",
    "piece_size",
    "piece_stride",
    "piece_edge",
    "series_scaling",
    "differences",
    "difference_scaling",
    "seed",
    "batch_rows",
)
# A method is compared as it is: no second model is fitted in its time, and nothing else proposes candidates.
COMMON: Mapping[str, Any] = {
    "search.method": "optimizer",
    "search.improvements": [],
    "search.function": "",
    "search.candidates_at_once": 1,
    "readout.warm_start": False,
    "training.baseline": False,
    "training.tree_baseline": "never",
}
# The extractor of the arm "extractor".
TRAINED_EXTRACTOR = "pretrained"
# Taken in place of values that a run measures or takes from the machine.
KERNEL = "dense-fp32"
BATCH_ROWS = 512
THREADS = 1
WIDTH: Mapping[str, Any] = {"low": 16, "high": 256}
DEPTH: Mapping[str, Any] = {"low": 1, "high": 3}
# The training of a candidate, in every space of a trained readout.
TRAINING: Mapping[str, Any] = {
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "dropout": {"low": 0.0, "high": 0.5},
}


def completed(config: Config, facts: DataFacts, parts: Mapping[str, Any]) -> Config:
    """Return the settings of a comparison with the parts of a method and the defaults that follow from both.

    Parameters
    ----------
    config : Config
        Settings of the comparison.
    facts : DataFacts
    parts : mapping
        The method's ``readout.kind`` and what else decides defaults, by dotted key.

    Raises
    ------
    InputError
        If the settings contradict each other.
    """
    # Without a search yet: settings for a search of reservoirs may contradict the parts of other methods.
    first = {**COMMON, "search.generations": 0, **_extractor_of_arm(config), **parts}
    complete = completed_quietly(with_settings(config, first, "with the parts of the method"), facts)
    return with_settings(complete, _not_measured(complete), "with the parts of the method")


def _extractor_of_arm(config: Config) -> dict[str, Any]:
    """Return the extractor of the cell's arm: none, or the trained one that all methods read.

    Another extractor that makes sequences is not part of the samples as they are, and [augment] changes images for it.
    """
    kind = config.extractor.kind
    if reads_trained_extractor(config):
        return {"augment": {}}
    return {"extractor.kind": "none", "augment": {}} if config.extractor.makes_sequences else {"extractor.kind": kind}


def reads_trained_extractor(config: Config) -> bool:
    """Return whether a cell is one of the arm "extractor", whose methods read the output of one trained extractor."""
    return config.extractor.kind == TRAINED_EXTRACTOR


def _not_measured(config: Config) -> dict[str, Any]:
    """Return fixed values of what a run measures or takes from the machine: repetitions of a cell end in equal bits."""
    kernel = str(config.reservoir.kernel)
    return {
        "reservoir.kernel": KERNEL if kernel == "auto" else kernel,
        "reservoir.batch_rows": config.reservoir.batch_rows or BATCH_ROWS,
        "training.threads": config.training.threads or THREADS,
    }


def with_own(config: Config, changes: Mapping[str, Any]) -> Config:
    """Return complete settings with a method's own, by dotted key; a section's name replaces the whole section.

    Raises
    ------
    InputError
        If the settings contradict each other.
    """
    return with_settings(config, changes, "with the settings of the method")


def searched_by(optimizer: str, space: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a search in which each candidate's readout is trained or solved.

    Parameters
    ----------
    optimizer : str
        A value of ``search.optimizer``.
    space : mapping
        The dimensions of the space, which replaces that of the comparison.
    """
    return {
        "search.optimizer": optimizer,
        "search.evaluation": "train",
        "search.fitness": "eq5",
        "search.space": dict(space),
    }


# As for other methods, the validation rows choose the penalty of a last layer that is solved, not left-out rows.
BY_VALIDATION: Mapping[str, Any] = {"readout.ridge_selection": "validation"}
# The density term of eq. 5 is about reservoirs.
NO_DENSITY_TERM: Mapping[str, Any] = {"search.density_weight": 0.0}


def without_joined_features(config: Config) -> dict[str, Any]:
    """Return the part that leaves out an extractor whose features are those of whole samples, not of steps."""
    return {"extractor.kind": "none"} if config.extractor.joins_features else {}


def input_only(config: Config) -> dict[str, Any]:
    """Return the section ``[reservoir]`` in which the sequences that would drive it are the input of the readout."""
    kept = config.reservoir.model_dump(include=set(INPUT_KEYS), exclude_defaults=True)
    return {"reservoir": {**kept, "kind": "none"}}


def refuse_one_step(config: Config, facts: DataFacts) -> None:
    """Raise an `InputError` if a readout that reads step by step gets samples of one step."""
    if config.extractor.makes_sequences or 0 in facts.sample_shape:
        return
    steps, _ = Sequencer.of(config.reservoir).shape(facts.sample_shape)
    if steps == 1:
        row = "the row of a table is" if facts.kind == "table" else f"samples of the shape {facts.sample_shape} have"
        raise InputError(
            f"it reads a sequence step by step, and {row} a single step: leave the method out, or, if the values of a "
            "sample are a series, cut it with reservoir.sequence = 'pixels' or 'windows'"
        )


def refuse_trained_extractor(config: Config, what: str) -> None:
    """Raise an `InputError` if the cell's arm has an extractor whose output the method does not read."""
    if reads_trained_extractor(config):
        raise InputError(f"{what}, not the output of an extractor: leave the method out of the arm 'extractor'")

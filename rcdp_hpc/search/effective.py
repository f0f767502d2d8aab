"""The settings that a search works with.

Only dimensions that have an effect with the kind of reservoir are searched. Candidates read the features of a fixed
extractor, which replaces the samples.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from rcdp_hpc.config import Config, ExtractorSection, SpaceSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.extractors import extractor_of
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.search.space import owner_of
from rcdp_hpc.search.state_sets import STATE_SETS

log = logging.getLogger(__name__)

# Keys of [reservoir] that describe connections between nodes, which only reservoir.kind = "random" has.
_CONNECTIONS = ("density", "spectral_radius", "weight_scale")
# Keys of [reservoir] that change the sequence itself, which the readout reads without a reservoir.
_SEQUENCE_KEYS = ("series_scaling", "differences")
_REMEDIES = {
    "none": "search values of the readout with search.evaluation = 'train', as in search.space.hidden = "
    "{ low = 16, high = 256 }",
    "diagonal": "search other values, as in search.space.input_scaling = { low = 0.1, high = 2.0 }",
}


def with_effective_space(config: Config) -> Config:
    """Return the configuration with only those dimensions of its search space that have an effect.

    Without a reservoir, candidates do not differ by keys of ``[reservoir]``; a diagonal reservoir has no connections.
    Such dimensions come from a profile, or from the search of the same settings with a reservoir. A function of the
    user's own (``search.evaluation = "function"``) may use every dimension.

    Parameters
    ----------
    config : Config

    Raises
    ------
    InputError
        If the configuration has a search, and none of its dimensions has an effect.
    """
    given = _given(config.search.space)
    idle = [name for name in given if not _has_effect(name, config)]
    if not (idle and config.has_search):
        return config
    kind, names = config.reservoir.kind, ", ".join(idle)
    if len(idle) == len(given):
        raise InputError(
            f"search.generations = {config.search.generations} has nothing to search: with reservoir.kind = {kind!r} "
            f"candidates would not differ by the values of search.space ({names}). Set search.generations = 0 to skip "
            f"the search, or {_REMEDIES[kind]}"
        )
    space = config.search.space.model_copy(update=dict.fromkeys(idle))
    return config.model_copy(update={"search": config.search.model_copy(update={"space": space})})


def report_idle_dimensions(config: Config) -> None:
    """Log the dimensions that `with_effective_space` leaves out."""
    left = _given(with_effective_space(config).search.space)
    idle = [name for name in _given(config.search.space) if name not in left]
    if idle:
        log.info(
            "search: with reservoir.kind = %r candidates would not differ by %s of search.space; searched: %s",
            *(config.reservoir.kind, ", ".join(idle), ", ".join(left)),
        )


def reads_extractor(config: Config) -> bool:
    """Return whether candidates read the features of the extractor instead of the samples.

    A trained extractor is not known before the training. Features that follow the states of a reservoir are left out.
    """
    extractor = config.extractor
    if extractor.trained or config.search.evaluation == "function":
        return False
    return extractor.makes_sequences or (extractor.joins_features and config.reservoir.kind == "none")


def evaluated_config(config: Config) -> Config:
    """Return the settings that candidates are evaluated with: no extractor.

    If they read the features of one, these are the samples, and sequences already.
    """
    changes: dict[str, Any] = {}
    if reads_extractor(config):
        changes = {"sequence": "rows", "piece_size": [], "piece_stride": []}
    if config.extractor.joins_features and config.reservoir.kind == "none":
        changes |= {"series_scaling": "none", "differences": False}  # the extractor reads the sequences as they are
    reservoir = config.reservoir.model_copy(update=changes)
    return config.model_copy(update={"extractor": ExtractorSection(), "reservoir": reservoir})


def evaluated_shape(config: Config, sample_shape: Sequence[int]) -> tuple[int, int]:
    """Return the steps, and the features per step, of the sequences that candidates read.

    Parameters
    ----------
    config : Config
        Of the whole run.
    sample_shape : sequence of int
        Shape of one sample.

    Raises
    ------
    InputError
        If the samples have another shape than the extractor or ``reservoir.sequence`` takes.
    """
    extractor = extractor_of(config, sample_shape)
    if reads_extractor(config) and not extractor.joined_features:
        shape = extractor.sequence_shape()
        if shape is None:  # a class of the user's own is trained, and the pipeline has read a pretrained model
            raise TypeError(f"the sequences of extractor.kind = {config.extractor.kind!r} are not known")
        return shape
    if reads_extractor(config):
        return 1, extractor.joined_features
    return Sequencer.of(config.reservoir).shape(tuple(sample_shape))


def _given(space: SpaceSection) -> list[str]:
    return [name for name in SpaceSection.model_fields if getattr(space, name) is not None]


def _has_effect(name: str, config: Config) -> bool:
    kind = config.reservoir.kind
    if kind == "random" or config.search.evaluation == "function":
        return True
    if name == "state_set":
        return kind == "diagonal" or _sets_change_sequence(config)
    if owner_of(name).section != "reservoir":
        return True
    return kind == "diagonal" and name not in _CONNECTIONS


def _sets_change_sequence(config: Config) -> bool:
    """Return whether the searched state sets differ by the sequence that drives a reservoir."""
    if config.extractor.joins_features:  # the readout reads its features, which are those of the unchanged sequences
        return False
    section = config.search.space.state_set
    sets = [STATE_SETS[str(name)].settings for name in (section and section.choices) or () if name in STATE_SETS]
    return len({tuple(one.get(key) for key in _SEQUENCE_KEYS) for one in sets}) > 1

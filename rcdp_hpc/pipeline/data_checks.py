"""Checks that the settings of all stages fit the data, before anything is balanced or written. Without torch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from rcdp_hpc.config import Config, check_candidates, largest_candidate
from rcdp_hpc.config.choices import balancing_choice
from rcdp_hpc.data.sources import Source
from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.user_readout_check import check_user_readout
from rcdp_hpc.reservoir.feasible import check_reservoir
from rcdp_hpc.reservoir.kept_steps import input_features
from rcdp_hpc.reservoir.matrix_files import read_matrices
from rcdp_hpc.search.checks import check_candidate_shape, check_fitness, check_lengths, check_rows, checked_space
from rcdp_hpc.training.checks import (
    check_batch,
    check_images,
    check_sequences,
    check_solved,
    check_speeds,
    check_warm_start,
    check_warm_start_features,
    warmup_steps,
)
from rcdp_hpc.training.criterion_checks import check_criteria

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class SourceFacts:
    """Properties of the data that settings must fit.

    Attributes
    ----------
    description : str
        One line for messages.
    sample_shape : tuple of int
        Shape of one sample.
    shortest : int or None
        Steps of the shortest series; None if all samples are whole.
    classes : list of str
        Names of the classes.
    counts : list of int
        Training samples of each class.
    rows : int or None
        Number of training rows after balancing, or an upper limit; None to omit the checks that depend on it.
    """

    description: str
    sample_shape: tuple[int, ...]
    shortest: int | None
    classes: list[str]
    counts: list[int]
    rows: int | None

    @classmethod
    def of_source(cls, source: Source, counts: dict[str, list[int]]) -> SourceFacts:
        """Return the facts of an open source, with `counts` from `rcdp_hpc.data.prepare.split_rows`."""
        rows = sum(counts["wanted"])
        return cls(source.description, source.sample_shape, source.shortest, source.classes, counts["before"], rows)

    @classmethod
    def of_index(cls, index: dict[str, Any]) -> SourceFacts:
        """Return the facts of prepared shards, without `rows`: a checkpoint may already determine the batch."""
        return cls(
            index["source"]["description"],
            tuple(index["sample_shape"]),
            index.get("shortest"),
            index["classes"],
            [entry["before"] for entry in index["class_table"]],
            None,
        )


class SettingsCheck:
    """The check of one preparation, which either reads the source or finds complete shards.

    Parameters
    ----------
    ranks : int, optional
        Number of ranks of search and training; None if it is not known yet.
    own_matrices : Path, optional
        The run's copy of ``reservoir.matrices``, read if the user's file does not exist.
    """

    def __init__(self, ranks: int | None = None, own_matrices: Path | None = None) -> None:
        self.ranks = ranks
        self.own_matrices = own_matrices
        self._done = False

    def source(self, source: Source, config: Config, counts: dict[str, list[int]]) -> None:
        """Raise an `InputError` if the settings do not fit an open source."""
        check_settings_fit(config, SourceFacts.of_source(source, counts), self.ranks, self.own_matrices)
        self._done = True

    def shards(self, index: dict[str, Any], config: Config) -> None:
        """Raise an `InputError` if the settings do not fit earlier shards; does nothing if `source` was called."""
        if not self._done:
            check_settings_fit(config, SourceFacts.of_index(index), self.ranks, self.own_matrices)


def check_settings_fit(
    config: Config, facts: SourceFacts, ranks: int | None = None, own_matrices: Path | None = None
) -> None:
    """Raise an `InputError` that names all settings of search and training that do not fit the data.

    Parameters
    ----------
    config : Config
    facts : SourceFacts
    ranks, own_matrices
        As in `SettingsCheck`.
    """
    problems = Problems()
    if config.has_search:
        problems.ask(lambda: checked_space(config, ranks))
        problems.ask(lambda: check_lengths(config, facts.shortest is not None))
        problems.ask(lambda: check_candidate_shape(config, facts.sample_shape, facts.shortest))
        problems.ask(lambda: check_rows(config, facts.classes, facts.counts))
        problems.ask(lambda: check_fitness(config, facts.classes))
    problems.ask(lambda: check_criteria(config, facts.classes))
    problems.ask(lambda: check_reservoir(config))
    _check_samples(problems, config, facts, own_matrices)
    classes = len(facts.classes)
    problems.ask(lambda: check_candidates(config, lambda one: check_warm_start(one, classes)))
    if not problems.messages:
        problems.ask(lambda: check_candidates(config, lambda one: check_warm_start_features(one, facts.sample_shape)))
        problems.ask(lambda: check_candidates(config, lambda one: check_solved(one, facts.sample_shape)))
        problems.ask(lambda: check_candidates(config, lambda one: check_user_readout(one, facts.sample_shape, classes)))
    if facts.rows is not None:
        problems.ask(lambda: _check_teachers(config, facts))
    _check_steps(problems, config, facts, ranks)
    problems.refuse(facts.description)


class Problems:
    """The problems that several checks report, for one message."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def ask(self, check: Callable[[], T]) -> T | None:
        """Return the value of a check; if it raises an `InputError`, record the message and return None."""
        try:
            return check()
        except InputError as error:
            self.messages.append(str(error).rstrip("."))
            return None

    def refuse(self, description: str) -> None:
        """Raise an `InputError` if there are problems."""
        messages = list(dict.fromkeys(self.messages))
        if len(messages) == 1:
            raise InputError(f"the settings do not fit the data ({description}): {messages[0]}.")
        if messages:
            listed = "; ".join(f"({number}) {problem}" for number, problem in enumerate(messages, 1))
            raise InputError(f"{len(messages)} settings do not fit the data ({description}): {listed}.")


def _check_samples(problems: Problems, config: Config, facts: SourceFacts, own_matrices: Path | None) -> None:
    """Check images, sequences and given matrices against the shape of a sample."""
    problems.ask(lambda: check_images(config, facts.sample_shape, facts.shortest))
    shape = facts.sample_shape
    sequence = problems.ask(lambda: check_candidates(config, lambda one: check_sequences(one, shape, facts.shortest)))
    reservoir = config.reservoir
    if sequence is None or not reservoir.matrices or reservoir.kind == "none":
        return
    source = Path(reservoir.matrices)
    path = own_matrices if own_matrices and own_matrices.exists() and not source.exists() else source
    features = input_features(reservoir, sequence[1])
    problems.ask(lambda: read_matrices(path, reservoir.nodes, features))


def _check_teachers(config: Config, facts: SourceFacts) -> None:
    """Raise an `InputError` if a model of ``loss.teacher`` is missing, or has other classes or samples.

    Prepared shards are not checked here: their run may have what it needs of a teacher that does not exist any more.
    """
    if not config.loss.teacher or find_spec("torch") is None:
        return
    from rcdp_hpc.model.model_file import ModelFile
    from rcdp_hpc.model.named_model import named_model
    from rcdp_hpc.training.teacher_models import TEACHER, refuse_other_classes

    for name in config.loss.teacher:
        file = ModelFile.read(named_model(TEACHER, name))
        lengths = facts.shortest is not None
        refuse_other_classes(name, file, "these data", facts.classes, facts.sample_shape, lengths)


def _check_steps(problems: Problems, config: Config, facts: SourceFacts, ranks: int | None) -> None:
    """Check the batch and the number of steps of the training; only warn if the training is another command."""
    training = largest_candidate(config).training
    if ranks is not None:
        problems.ask(lambda: check_speeds(config, ranks))
    rows = facts.rows
    if rows is None:
        return
    before = len(problems.messages)
    if ranks is None:
        # The training is another command, which may use another batch and other ranks.
        try:
            check_candidates(config, lambda one: check_batch(one, rows, 1))
        except InputError as error:
            log.warning("the training will be refused with these settings: %s", error)
        return
    problems.ask(lambda: check_candidates(config, lambda one: check_batch(one, rows, ranks)))
    # Other methods may give fewer rows, and so fewer steps.
    exact = balancing_choice(config.data.balance).exact
    if not exact or len(problems.messages) > before or not config.readout.trained:
        return
    batch = training.global_batch or training.batch * ranks
    steps = math.ceil(math.ceil(rows / batch) / training.accumulate)
    problems.ask(lambda: warmup_steps(config, steps))

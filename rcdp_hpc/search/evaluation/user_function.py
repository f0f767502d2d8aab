"""A fitness of the user's own, named as module:function."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.runtime.user_code import load_named
from rcdp_hpc.search.evaluation.candidate import REASON_LENGTH, Evaluation
from rcdp_hpc.search.evaluation.limits import time_limit
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.search.space import Values

EXPECTED = "a number (the fitness, maximised), or three: fitness, error, accuracy"


def load_function(name: str) -> Callable[..., Any]:
    """Import the function named ``module:function``; the working directory is looked in as well.

    Raises
    ------
    InputError
        If there is no such module or function.
    """
    return load_named("search.function", name, "function", "my_fitness:judge")  # type: ignore[no-any-return]


class FunctionFitness:
    """The fitness that a user's function gives.

    The function is called as ``function(values, data)``: a dict of the candidate's values by name, and a
    `FitnessData` whose arrays are read-only. It returns the fitness, maximised, or (fitness, error, accuracy). It
    must give the same answer for the same values on every rank, however often it is called.

    An exception, a call of `sys.exit`, a number that is not finite, and more than ``search.candidate_seconds`` make the
    candidate fail; an answer of another type and a changed input are defects of the function and end the search.

    Parameters
    ----------
    config : Config
    data : FitnessData

    Attributes
    ----------
    source : str
        A digest of the function's file, so that a search is not gone on with under another function.
    """

    def __init__(self, config: Config, data: FitnessData) -> None:
        self.name, self.data, self.limit = config.search.function, data, config.search.candidate_seconds
        self._due = data  # the part of the rows that the next candidates are judged by
        self.function = load_function(self.name)
        self.source = _source_digest(self.function)

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values."""
        started, given = time.perf_counter(), dict(values)
        try:
            with time_limit(self.limit):
                answer = self.function(given, self._due)
        except InputError:
            raise
        except (Exception, SystemExit) as failure:  # a rank that left would keep the others waiting
            text = str(failure) if isinstance(failure, CandidateError) else f"{type(failure).__name__}: {failure}"
            return self._failed(" ".join(text.split()), started)
        if given != values:
            raise InputError(f"search.function = {self.name!r} changed its input from {values} to {given}; let it copy")
        fitness, error, accuracy = self._numbers(answer)
        if not math.isfinite(fitness):
            return self._failed(f"{self.name} returned {fitness}", started)
        return Evaluation(fitness, error, accuracy, time.perf_counter() - started)

    def on_share(self, share: float) -> FunctionFitness:
        """Hand the next candidates the first rows, this share of all; return this object."""
        self._due = self.data.first(share) if share < 1 else self.data
        return self

    def _numbers(self, answer: Any) -> tuple[float, float, float]:
        numbers = tuple(answer) if isinstance(answer, tuple | list) else (answer, math.nan, math.nan)
        sound = [isinstance(n, int | float | np.number) and not isinstance(n, bool | np.bool_) for n in numbers]
        if len(numbers) != 3 or not all(sound):
            raise InputError(
                f"search.function = {self.name!r} returned {answer!r} ({type(answer).__name__}): expected {EXPECTED}"
            )
        return float(numbers[0]), float(numbers[1]), float(numbers[2])

    def _failed(self, reason: str, started: float) -> Evaluation:
        return Evaluation(-math.inf, math.nan, math.nan, time.perf_counter() - started, reason[:REASON_LENGTH])


def _source_digest(function: Callable[..., Any]) -> str:
    try:
        text = inspect.getsource(inspect.getmodule(function) or function)
    except (OSError, TypeError):
        return ""
    return hashlib.sha256(text.encode()).hexdigest()[:16]

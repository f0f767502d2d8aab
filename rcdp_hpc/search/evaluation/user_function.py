"""Fitness computed by a function of the user, named as module:function."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.runtime.user_code import load_named
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import REASON_LENGTH, Evaluation
from rcdp_hpc.search.evaluation.limits import time_limit
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.search.space import Values

EXPECTED = "a number (the fitness, maximised), or three numbers: fitness, error, accuracy"


def load_function(name: str) -> Callable[..., Any]:
    """Import the function named ``module:function``, also from the working directory.

    Raises
    ------
    InputError
        If there is no such module or function.
    """
    return load_named("search.function", name, "function", "my_fitness:judge")  # type: ignore[no-any-return]


class FunctionFitness(Fitness):
    """The fitness that a function of the user returns.

    The function is called as ``function(values, data)``: a dict of the candidate's values by name, and a
    `FitnessData` whose arrays are read-only. It returns the fitness, maximised, or (fitness, error, accuracy). It must
    return the same for the same values, on every rank and at every call.

    A candidate fails if the function raises an exception, calls `sys.exit`, returns a number that is not finite, or
    takes longer than ``search.candidate_seconds``. A returned value of another type or a changed input is a defect of
    the function and ends the search.

    Parameters
    ----------
    config : Config
    data : FitnessData
    """

    def __init__(self, config: Config, data: FitnessData) -> None:
        self.name = config.search.function
        self.data = data
        self.limit = config.search.candidate_seconds
        self._rows = data  # the rows that the next candidates are evaluated on
        self.function = load_function(self.name)

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values."""
        started = time.perf_counter()
        argument = dict(values)
        try:
            with time_limit(self.limit):
                answer = self.function(argument, self._rows)
        except InputError:
            raise
        except (Exception, SystemExit) as failure:  # a rank that ends alone would keep the others waiting
            text = str(failure) if isinstance(failure, CandidateError) else f"{type(failure).__name__}: {failure}"
            return self._failed(" ".join(text.split()), started)
        if argument != values:
            raise InputError(
                f"search.function = {self.name!r} changed its argument from {values} to {argument}: change a copy"
            )
        fitness, error, accuracy = self._numbers(answer)
        if not math.isfinite(fitness):
            return self._failed(f"{self.name} returned {fitness}", started)
        return Evaluation(fitness, error, accuracy, time.perf_counter() - started)

    def set_share(self, share: float) -> FunctionFitness:
        """Evaluate the next candidates on the first rows, this share of all; return this object."""
        self._rows = self.data.first(share) if share < 1 else self.data
        return self

    def _numbers(self, answer: Any) -> tuple[float, float, float]:
        numbers = tuple(answer) if isinstance(answer, tuple | list) else (answer, math.nan, math.nan)
        valid = [isinstance(n, int | float | np.number) and not isinstance(n, bool | np.bool_) for n in numbers]
        if len(numbers) != 3 or not all(valid):
            raise InputError(
                f"search.function = {self.name!r} returned {answer!r} ({type(answer).__name__}): expected {EXPECTED}"
            )
        return float(numbers[0]), float(numbers[1]), float(numbers[2])

    def _failed(self, reason: str, started: float) -> Evaluation:
        return Evaluation(-math.inf, math.nan, math.nan, time.perf_counter() - started, reason[:REASON_LENGTH])

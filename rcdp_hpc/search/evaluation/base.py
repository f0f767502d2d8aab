"""The base class of all fitnesses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.search.evaluation.candidate import Evaluation
from rcdp_hpc.search.space import Values


class Fitness(ABC):
    """Evaluates candidates: the same values give the same answer on every rank, in any order.

    A subclass defines ``__call__``. Its other abilities are optional and have defaults: ranks that evaluate one
    candidate together, candidates evaluated on a part of the rows, several candidates at once.

    Attributes
    ----------
    candidates_at_once : int
        Most candidates that `evaluate` accepts.
    uses_groups : bool
        Whether ranks can evaluate a candidate together (`set_group`).
    parallel_share : float
        Share of the time of a candidate that a group of ranks divides, from 0 to 1.
    """

    candidates_at_once: int = 1
    uses_groups: bool = False

    @property
    def parallel_share(self) -> float:
        """Share of the time of a candidate that a group of ranks divides, from 0 to 1."""
        return 0.0

    @abstractmethod
    def __call__(self, values: Values) -> Evaluation:
        """Return the evaluation of the candidate with these values by name."""

    def evaluate(self, candidates: list[Values]) -> list[Evaluation]:
        """Return the evaluations of at most `candidates_at_once` candidates."""
        return [self(values) for values in candidates]

    def prepare(self, candidates: list[Values]) -> None:
        """Learn which candidates this rank evaluates next, in this order. No result may depend on it."""
        return

    def close(self) -> None:
        """Give back what evaluations hold beside memory. Called at the end of a search."""
        return

    def set_group(self, group: Communicator) -> Self:
        """Evaluate the next candidates together with the ranks of a group; return this object.

        Called on all ranks of the group, which then call the fitness at the same time with the same values. Without
        `uses_groups` every group has one rank.
        """
        return self

    def set_share(self, share: float) -> Self:
        """Evaluate the next candidates on the first rows, this share of all (above 0, at most 1); return this object.

        Raises
        ------
        InputError
            If the fitness can use only all rows, and `share` is below 1.
        """
        if share < 1:
            raise InputError(
                f"search.halving needs a fitness that can use a part of the rows, and {type(self).__name__} cannot: "
                "set search.halving = 1"
            )
        return self

"""The density term of eq. 5, in units of the fitness at the start of the search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.search.evaluation.candidate import SMALLEST_ERROR
from rcdp_hpc.search.space import Space


@dataclass(frozen=True)
class DensityTerm:
    """``lambda · 1/E_0 · (p - p_target)²``, which eq. 5 subtracts from 1/E.

    E_0 is the error of the first candidate of the search that did not fail, so that lambda has the same meaning for
    any data: a density that differs from the target by 1/sqrt(lambda) costs as much as the first candidate's 1/E.

    Attributes
    ----------
    weight, target : float
        lambda and p_target.
    column : int or None
        Index of the density among the values of a candidate; None if it is not searched.
    configured : float
        ``reservoir.density``, which counts if the density is not searched.
    """

    weight: float
    target: float
    column: int | None
    configured: float

    @classmethod
    def of(cls, config: Config, space: Space) -> DensityTerm | None:
        """Return the term of a search; None if its fitness has none."""
        search = config.search
        if not has_density_term(config):
            return None
        column = space.names.index("density") if "density" in space.names else None
        return cls(search.density_weight, search.density_target, column, config.reservoir.density)

    def __call__(self, values: NDArray[np.float64], first_error: float) -> float:
        """Return the term of a candidate.

        Parameters
        ----------
        values : ndarray, shape (d,), float64
            Its values.
        first_error : float
            E_0, taken as at least 1e-12.
        """
        density = self.configured if self.column is None else float(values[self.column])
        return self.weight / max(first_error, SMALLEST_ERROR) * (density - self.target) ** 2


def has_density_term(config: Config) -> bool:
    """Return whether the fitness has a density term: eq. 5 with a weight, of a reservoir of random connections."""
    search = config.search
    return (
        search.fitness == "eq5"
        and search.evaluation != "function"
        and search.density_weight > 0
        and config.reservoir.kind == "random"
    )

"""The base class of all improvements of moth-flame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from rcdp_hpc.search.optimizers.base import Costs, Positions
    from rcdp_hpc.search.optimizers.moth_flame import MothFlame


class Improvement:
    """A change of some steps of moth-flame that needs no further evaluations. By default no step is changed.

    `search` is the optimiser. Moths are positions of shape (N, d), costs of shape (N,). The spiral uses the first N·d
    random numbers of a generation; each improvement uses others after these.
    """

    def first_moths(self, search: MothFlame, moths: Positions) -> Positions:
        """Return the moths of generation 1, changed."""
        return moths

    def observe(self, search: MothFlame, costs: Costs) -> None:
        """Receive the costs of a generation, before the flames are updated."""

    def next_moths(self, search: MothFlame, moths: Positions) -> Positions:
        """Return the moths of generation ``search.generation``, already on their spirals, changed."""
        return moths

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that changes between generations, as arrays; the names must differ from all others."""
        return {}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state."""

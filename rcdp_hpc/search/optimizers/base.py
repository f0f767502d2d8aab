"""The base class of all optimisers: propose positions (ask), receive their costs (tell), minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from rcdp_hpc.config import SearchSection

Positions = NDArray[np.float64]
Costs = NDArray[np.float64]


class Optimizer(ABC):
    """Search for the position of least cost in a box.

    The random numbers of generation l are those of ``SeedSequence([seed, l])`` (`random_numbers`). No state of a random
    generator is therefore carried from one generation to the next, or stored in a checkpoint. Subclasses keep this
    constructor and set up their own state in `initialise`.

    Parameters
    ----------
    lower, upper : array_like, shape (d,)
        Bounds of every dimension, finite, lower < upper.
    population : int
        Positions per generation N.
    generations : int
        Generations T; N · T positions are evaluated in all.
    seed : int
        Seed of all random numbers.
    start : array_like, shape (d,), optional
        Replaces the first position of generation 1; a coordinate that is NaN keeps its random value.

    Attributes
    ----------
    generation : int
        Generation that `ask` returns, from 1; T + 1 after the last `tell`.

    Raises
    ------
    ValueError
        If a parameter has the wrong shape or is out of range.
    """

    def __init__(
        self,
        lower: ArrayLike,
        upper: ArrayLike,
        population: int,
        generations: int,
        seed: int,
        start: ArrayLike | None = None,
    ) -> None:
        self.lower = np.array(lower, dtype=np.float64, ndmin=1)
        self.upper = np.array(upper, dtype=np.float64, ndmin=1)
        if self.lower.ndim != 1 or self.lower.shape != self.upper.shape or self.lower.size == 0:
            raise ValueError("lower and upper must be vectors of one length, at least 1")
        if not (np.isfinite(self.upper - self.lower).all() and (self.lower < self.upper).all()):
            raise ValueError("lower and upper must be finite, and lower below upper")
        if population < 1 or generations < 1 or seed < 0:
            raise ValueError("population and generations must be at least 1, seed at least 0")
        self.population = population
        self.generations = generations
        self.seed = seed
        self.start = np.full(self.lower.shape, np.nan) if start is None else np.array(start, dtype=np.float64, ndmin=1)
        if self.start.shape != self.lower.shape or np.isinf(self.start).any():
            raise ValueError("start must be a vector as long as the bounds, without infinities")
        self.generation = 1
        self.initialise()

    @classmethod
    def options(cls, search: SearchSection) -> dict[str, Any]:
        """Return the further keyword arguments of the constructor, from the section ``[search]``; by default none."""
        return {}

    @property
    def done(self) -> bool:
        """Whether all generations are evaluated."""
        return self.generation > self.generations

    @abstractmethod
    def initialise(self) -> None:
        """Set up the state before generation 1; called once, at the end of the constructor."""

    @abstractmethod
    def ask(self) -> Positions:
        """Return the positions to evaluate, shape (N, d), float64, within the bounds; the same until the next `tell`.

        The caller may change the returned array.
        """

    @abstractmethod
    def tell(self, costs: ArrayLike) -> None:
        """Receive the costs of the positions of `ask`, shape (N,), and add 1 to `generation`.

        A cost of +inf is a candidate that failed. `checked_costs` checks and converts them.
        """

    @abstractmethod
    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the best position so far, shape (d,), and its cost, +inf before the first `tell`."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Return copies of everything that changes between generations, `generation` included, as arrays of numbers."""

    @abstractmethod
    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state that `state` of an optimiser with the same parameters returned.

        Raises
        ------
        ValueError
            If it is not such a state (`checked_state`).
        """

    def status(self) -> str:
        """Return a few words on the state of the optimiser for progress lines; by default none."""
        return ""

    def random_numbers(self, generation: int, *shape: int) -> NDArray[np.float64]:
        """Return the first random numbers of a generation, uniform in [0, 1).

        The raw output of PCG64 is converted here, since NumPy keeps it the same in all versions. The result equals
        ``Generator(PCG64(SeedSequence([seed, generation]))).random(shape)``.

        Parameters
        ----------
        generation : int
        *shape : int

        Returns
        -------
        ndarray, float64
            Of the given shape.
        """
        stream = np.random.PCG64(np.random.SeedSequence([self.seed, generation]))
        raw = stream.random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def first_positions(self) -> Positions:
        """Return random positions for generation 1, the first replaced by the starting point, shape (N, d)."""
        positions = self.uniform_positions(1)
        positions[0] = self.with_start(positions[0])
        return positions

    def with_start(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a position, shape (d,), with the coordinates of the starting point that are not NaN."""
        return np.where(np.isnan(self.start), position, np.clip(self.start, self.lower, self.upper))

    def uniform_positions(self, generation: int) -> Positions:
        """Return positions uniform in the box, from the first random numbers of a generation, shape (N, d)."""
        numbers = self.random_numbers(generation, self.population, self.lower.size)
        return np.clip(self.lower + numbers * (self.upper - self.lower), self.lower, self.upper)

    def checked_costs(self, costs: ArrayLike) -> Costs:
        """Return the costs as an array of shape (N,).

        Raises
        ------
        ValueError
            If there are not N costs, one of them is NaN, or all generations are evaluated already.
        """
        checked = np.array(costs, dtype=np.float64)
        if checked.shape != (self.population,):
            raise ValueError(f"costs have shape {checked.shape}, expected ({self.population},)")
        if np.isnan(checked).any():
            raise ValueError("a cost is NaN; a candidate that failed has +inf")
        if self.done:
            raise ValueError(f"all {self.generations} generations are evaluated already")
        return checked

    def checked_state(self, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a copy of the arrays of a state.

        Raises
        ------
        ValueError
            If their names, shapes or types are not those of this optimiser.
        """
        expected = self.state()
        for name, array in expected.items():
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise ValueError(f"state: {name} must be an array of shape {array.shape} and type {array.dtype}")
        return {name: state[name].copy() for name in expected}

"""What every optimiser does: propose positions (ask), learn their costs (tell), minimise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Positions = NDArray[np.float64]
Costs = NDArray[np.float64]


class Optimizer(ABC):
    """A search for the position of least cost in a box.

    The random numbers behind generation l are those of ``SeedSequence([seed, l])``: no generator state has
    to be carried from one generation to the next, or into a checkpoint. Subclasses have this constructor and say in
    `begin` what there is before the first generation.

    Parameters
    ----------
    lower, upper : array_like, shape (d,)
        Bounds of every dimension, finite, lower < upper.
    population : int
        Positions N proposed per generation.
    generations : int
        Generations T; N · T positions are evaluated in all.
    seed : int
        Seed of every random number.
    start : array_like, shape (d,), optional
        Takes the place of the first position of generation 1, as a point to start from; NaN leaves a coordinate
        as it was drawn.

    Attributes
    ----------
    generation : int
        Number of the generation that `ask` returns, from 1; T + 1 once all are told.
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
        self.population, self.generations, self.seed = population, generations, seed
        self.start = np.full(self.lower.shape, np.nan) if start is None else np.array(start, dtype=np.float64, ndmin=1)
        if self.start.shape != self.lower.shape or np.isinf(self.start).any():
            raise ValueError("start must be a vector as long as the bounds, without infinities")
        self.generation = 1
        self.begin()

    @property
    def done(self) -> bool:
        """Whether every generation has been told."""
        return self.generation > self.generations

    @abstractmethod
    def begin(self) -> None:
        """Set up what the optimiser carries from generation to generation; called once, by the constructor."""

    @abstractmethod
    def ask(self) -> Positions:
        """Return the positions to evaluate next, shape (N, d), float64; the same until `tell` is called."""

    @abstractmethod
    def tell(self, costs: ArrayLike) -> None:
        """Take the costs of the positions that `ask` returned, shape (N,); +inf is the worst possible."""

    @abstractmethod
    def best(self) -> tuple[NDArray[np.float64], float]:
        """Return the best position so far, shape (d,), and its cost (+inf before the first `tell`)."""

    @abstractmethod
    def state(self) -> dict[str, NDArray[Any]]:
        """Return all that changes from generation to generation, as arrays that own their memory."""

    @abstractmethod
    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state that `state` of an optimiser with the same parameters returned."""

    def status(self) -> str:
        """Return a few words on the search's own state, for progress lines."""
        return ""

    def draws(self, generation: int) -> Positions:
        """Return the numbers in [0, 1) behind a generation, shape (N, d).

        The raw output of PCG64 is used, which NumPy keeps over its versions; with this conversion it equals
        ``Generator(PCG64(SeedSequence([seed, generation]))).random((N, d))``.
        """
        return self.numbers(generation, self.population * self.lower.size).reshape(self.population, -1)

    def numbers(self, generation: int, count: int) -> NDArray[np.float64]:
        """Return the first `count` numbers in [0, 1) of a generation, shape (count,); `draws` are the first of them."""
        stream = np.random.PCG64(np.random.SeedSequence([self.seed, generation]))
        raw = stream.random_raw(count)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def first(self) -> Positions:
        """Return the positions of generation 1: uniform in the box, the point to start from in front, shape (N, d)."""
        positions = self.uniform(1)
        positions[0] = self.with_start(positions[0])
        return positions

    def with_start(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return a position, shape (d,), with the coordinates that the point to start from gives."""
        return np.where(np.isnan(self.start), position, np.clip(self.start, self.lower, self.upper))

    def uniform(self, generation: int) -> Positions:
        """Return positions drawn uniformly from the box, shape (N, d)."""
        inside = self.lower + self.draws(generation) * (self.upper - self.lower)
        return np.clip(inside, self.lower, self.upper)

    def checked_costs(self, costs: ArrayLike) -> Costs:
        """Return the costs as an array of shape (N,).

        Raises
        ------
        ValueError
            If their number is not N, one of them is NaN, or all generations are told already.
        """
        checked = np.array(costs, dtype=np.float64)
        if checked.shape != (self.population,):
            raise ValueError(f"costs have shape {checked.shape}, expected ({self.population},)")
        if np.isnan(checked).any():
            raise ValueError("a cost is NaN; +inf stands for the worst possible")
        if self.done:
            raise ValueError(f"all {self.generations} generations are told already")
        return checked

    def checked_state(self, state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return a copy of the arrays of a state.

        Raises
        ------
        ValueError
            If names, shapes or types are not those of this optimiser.
        """
        own = self.state()
        for name, array in own.items():
            if name not in state or state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise ValueError(f"state: {name} must be an array of shape {array.shape} and type {array.dtype}")
        return {name: state[name].copy() for name in own}

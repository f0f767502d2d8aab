"""Creation of the optimiser that a configuration names, and checks of what it returns, before and during a search."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rcdp_hpc.config.choices import SEARCH_OPTIMIZERS
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.search.optimizers.base import Optimizer, Positions

if TYPE_CHECKING:
    from rcdp_hpc.config import SearchSection

Box = tuple[NDArray[np.float64], NDArray[np.float64]]


class CheckedOptimizer:
    """An optimiser whose answers are checked: an `InputError` names the class, what it returned, and what is expected.

    Parameters
    ----------
    search : SearchSection
        ``optimizer``, ``population``, ``generations`` and the options of the optimiser are read.
    box : tuple of ndarray, shape (d,)
        Lower and upper bounds.
    seed : int
    start : ndarray, shape (d,)
        As in `Optimizer`.

    Raises
    ------
    InputError
        If the class cannot be imported, is not a subclass of `Optimizer`, or cannot be created.
    """

    def __init__(self, search: SearchSection, box: Box, seed: int, start: NDArray[np.float64]) -> None:
        self.name = search.optimizer
        kind = _loaded_class(self.name)
        with self._errors_explained("its constructor"):
            self._optimizer = kind(*box, search.population, search.generations, seed, start, **kind.options(search))

    @property
    def population(self) -> int:
        """Positions per generation N."""
        return self._optimizer.population

    @property
    def generations(self) -> int:
        """Generations T."""
        return self._optimizer.generations

    @property
    def generation(self) -> int:
        """The generation that `ask` returns, from 1."""
        return self._optimizer.generation

    @property
    def done(self) -> bool:
        """Whether all generations are evaluated."""
        return self.generation > self.generations

    def ask(self) -> Positions:
        """Return the positions of this generation, shape (N, d), float64."""
        positions = self._call("ask", self._optimizer.ask)
        shape = (self.population, self._optimizer.lower.size)
        if not isinstance(positions, np.ndarray) or positions.shape != shape or positions.dtype != np.float64:
            self._refuse(f"ask returned {_described(positions)}", f"a float64 array of shape {shape}")
        inside = (positions >= self._optimizer.lower) & (positions <= self._optimizer.upper)
        if not inside.all():  # NaN is not inside either
            row, column = np.argwhere(~inside)[0]
            bounds = f"{self._optimizer.lower[column]:g} to {self._optimizer.upper[column]:g}"
            self._refuse(
                f"ask returned {positions[row, column]:g} in generation {self.generation} (candidate {row}, "
                f"dimension {column})",
                f"positions within the bounds, here {bounds}",
            )
        return positions

    def tell(self, costs: ArrayLike) -> None:
        """Pass the costs of the positions, shape (N,), to the optimiser."""
        expected = self.generation + 1
        self._call("tell", lambda: self._optimizer.tell(costs))
        if self.generation != expected:
            self._refuse(f"generation is {self.generation!r} after tell", f"{expected}: tell adds 1 to it")

    def best_cost(self) -> float:
        """Return the least cost so far, +inf before the first `tell`."""
        best = self._call("best", self._optimizer.best)
        try:
            _, cost = best
            return float(cost)
        except (TypeError, ValueError):
            self._refuse(f"best returned {best!r}", "the best position and its cost")

    def status(self) -> str:
        """Return a few words on the state of the optimiser."""
        return str(self._call("status", self._optimizer.status))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the state as arrays of numbers."""
        state = self._call("state", self._optimizer.state)
        expected = "a dict of arrays of numbers by name"
        if not isinstance(state, dict):
            self._refuse(f"state returned {_described(state)}", expected)
        for name, array in state.items():
            if not isinstance(name, str) or not isinstance(array, np.ndarray) or array.dtype.kind not in "biufc":
                self._refuse(f"state returned {_described(array)} as {name!r}", expected)
        return dict(state)

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue from a state.

        Raises
        ------
        ValueError, KeyError
            If it is not a state of this optimiser.
        """
        self._optimizer.restore(state)

    def _call(self, method: str, work: Callable[[], Any]) -> Any:
        with self._errors_explained(method):
            return work()

    @contextmanager
    def _errors_explained(self, method: str) -> Iterator[None]:
        try:
            yield
        except RcdpError:
            raise
        except (Exception, SystemExit) as error:  # a rank that ends alone would keep the others waiting
            place = traceback.extract_tb(error.__traceback__)[-1]
            raise InputError(
                f"search.optimizer = {self.name!r}: {method} raised {type(error).__name__}: {error} "
                f"({place.filename}, line {place.lineno})"
            ) from error

    def _refuse(self, problem: str, expected: str) -> NoReturn:
        raise InputError(f"search.optimizer = {self.name!r}: {problem}; expected {expected} (docs/extending.md)")


def check_optimizer(search: SearchSection, box: Box, seed: int, start: NDArray[np.float64]) -> None:
    """Ask the configured optimiser for three generations without evaluating any, and restore it from its state.

    Parameters
    ----------
    search, box, seed, start
        As in `CheckedOptimizer`.

    Raises
    ------
    InputError
        If it breaks the contract of `Optimizer`.
    """
    first = CheckedOptimizer(search, box, seed, start)
    second = CheckedOptimizer(search, box, seed, start)
    positions = first.ask()
    _compare(first, positions, first.ask(), "two calls of ask in one generation")
    _compare(first, positions, second.ask(), "two optimisers with the same parameters")
    first.tell(np.linspace(1.0, 2.0, first.population))
    first.best_cost()
    first.status()
    state = first.state()
    if first.done:
        return
    expected = first.ask()
    with first._errors_explained("restore"):
        second.restore(state)
    if second.generation != first.generation:
        first._refuse(f"generation is {second.generation} after restore", f"{first.generation}, that of the state")
    _compare(first, expected, second.ask(), "an optimiser and one restored from its state")
    costs = np.linspace(3.0, 0.0, first.population)  # some better and some worse than those before
    first.tell(costs)
    second.tell(costs)
    if not first.done:
        what = "an optimiser and one restored from its state, one generation later,"
        _compare(first, first.ask(), second.ask(), what)


def _compare(optimizer: CheckedOptimizer, one: Positions, other: Positions, what: str) -> None:
    if one.tobytes() != other.tobytes():
        optimizer._refuse(f"{what} gave different positions", "the same: random numbers from self.random_numbers")


def _loaded_class(name: str) -> type[Optimizer]:
    kind = load_choice(SEARCH_OPTIMIZERS, name)
    if not isinstance(kind, type) or not issubclass(kind, Optimizer):
        raise InputError(
            f"search.optimizer = {name!r} is not a subclass of rcdp_hpc.search.optimizers.Optimizer (docs/extending.md)"
        )
    missing = sorted(getattr(kind, "__abstractmethods__", ()))
    if missing:
        raise InputError(f"search.optimizer = {name!r}: the class does not define {', '.join(missing)}")
    return kind


def _described(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and type {value.dtype}"
    return f"a {type(value).__name__}"
